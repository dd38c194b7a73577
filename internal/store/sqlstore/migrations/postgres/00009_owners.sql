-- +goose Up
-- The set of files that an object of the configuration belongs to: the one that it was applied from.
CREATE TABLE owners (
  org_id   TEXT COLLATE "C" NOT NULL,
  kind     TEXT COLLATE "C" NOT NULL,
  id       TEXT COLLATE "C" NOT NULL,
  owner    TEXT COLLATE "C" NOT NULL,
  owned_by TEXT NOT NULL,
  owned_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, kind, id)
);
