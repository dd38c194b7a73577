-- +goose Up
-- The servers that share the database: where runners reach each, and when it last said that it is there.
CREATE TABLE servers (
  id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  address  TEXT COLLATE "C" NOT NULL,
  heard_at BIGINT NOT NULL
);
-- Which server hands a sandbox over to its runner, while it is PENDING; empty where no other server has to know.
ALTER TABLE sandboxes ADD COLUMN server_id TEXT COLLATE "C" NOT NULL DEFAULT '';
-- Which process of a runner each server has a line to.
CREATE TABLE lines (
  runner_uuid TEXT COLLATE "C" NOT NULL,
  server_id   TEXT COLLATE "C" NOT NULL,
  instance    TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (runner_uuid, server_id)
);
CREATE INDEX lines_server ON lines (server_id);
