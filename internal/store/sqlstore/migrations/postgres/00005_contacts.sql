-- +goose Up
-- When a server was last in contact with a runner, as far as that was written: servers that share the database ask each other here.
CREATE TABLE contacts (
  runner_uuid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  heard_at    BIGINT NOT NULL
);
