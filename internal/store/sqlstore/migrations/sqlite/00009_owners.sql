-- +goose Up
-- The set of files that an object of the configuration belongs to: the one that it was applied from.
CREATE TABLE owners (
  org_id   TEXT NOT NULL,
  kind     TEXT NOT NULL,
  id       TEXT NOT NULL,
  owner    TEXT NOT NULL,
  owned_by TEXT NOT NULL,
  owned_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, kind, id)
) STRICT;
