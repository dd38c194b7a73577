-- +goose Up
-- The servers that share the database: where runners reach each, and when it last said that it is there.
CREATE TABLE servers (
  id       TEXT NOT NULL PRIMARY KEY,
  address  TEXT NOT NULL,
  heard_at INTEGER NOT NULL
) STRICT;
-- Which server hands a sandbox over to its runner, while it is PENDING; empty where no other server has to know.
ALTER TABLE sandboxes ADD COLUMN server_id TEXT NOT NULL DEFAULT '';
-- Which process of a runner each server has a line to.
CREATE TABLE lines (
  runner_uuid TEXT NOT NULL,
  server_id   TEXT NOT NULL,
  instance    TEXT NOT NULL,
  PRIMARY KEY (runner_uuid, server_id)
) STRICT;
CREATE INDEX lines_server ON lines (server_id);
