-- +goose Up
-- When a server last had traffic of a sandbox that may not be idle for ever, as far as that was written.
CREATE TABLE traffic (
  sandbox_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  busy_at    BIGINT NOT NULL
);
