-- +goose Up
-- Stores of secrets, each with its key, wrapped by the key that key_id names.
CREATE TABLE secret_stores (
  org_id       TEXT NOT NULL,
  id           TEXT NOT NULL,
  name         TEXT NOT NULL,
  provider     TEXT NOT NULL,
  key_id       TEXT NOT NULL,
  wrapped_key  TEXT NOT NULL,
  last_version INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  created_by   TEXT NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT;
CREATE UNIQUE INDEX secret_stores_name ON secret_stores (org_id, name);
CREATE INDEX secret_stores_key ON secret_stores (key_id);

-- What they have: sealed is encrypted with the key of the store, in base64; fields are names alone, as JSON.
CREATE TABLE secrets (
  org_id     TEXT NOT NULL,
  store_id   TEXT NOT NULL,
  path       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  fields     TEXT NOT NULL,
  sealed     TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL,
  PRIMARY KEY (org_id, store_id, path)
) STRICT;
