-- +goose Up
-- When a server last had traffic of a sandbox that may not be idle for ever, as far as that was written.
CREATE TABLE traffic (
  sandbox_id TEXT NOT NULL PRIMARY KEY,
  busy_at    INTEGER NOT NULL
) STRICT;
