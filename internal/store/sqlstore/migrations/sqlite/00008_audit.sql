-- +goose Up
-- What was done and refused, before it has a place in its chain: written in the transaction that does it.
CREATE TABLE audit_pending (
  id     INTEGER NOT NULL PRIMARY KEY,
  chain  TEXT NOT NULL,
  record TEXT NOT NULL
) STRICT;
-- The chains, one for each organization and '' for the installation. Append-only, but for the oldest rows, which are dropped when they
-- have been kept for long enough. record is what was hashed, byte for byte; the columns before it are for filters.
CREATE TABLE audit_rows (
  chain     TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  method    TEXT NOT NULL,
  object_id TEXT NOT NULL,
  outcome   TEXT NOT NULL,
  record    TEXT NOT NULL,
  hash      TEXT NOT NULL,
  PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_rows_at ON audit_rows (chain, at);
-- Where each chain ends, and the last row that was dropped from its beginning: 0 and '' for none.
CREATE TABLE audit_chains (
  chain       TEXT NOT NULL PRIMARY KEY,
  head_seq    INTEGER NOT NULL,
  head_hash   TEXT NOT NULL,
  anchor_seq  INTEGER NOT NULL,
  anchor_hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;
