-- +goose Up
-- The object that a backend gave to what runs a sandbox, as JSON. It is known later than the rest of the record and written once.
CREATE TABLE sandbox_submissions (
  sandbox_id TEXT NOT NULL PRIMARY KEY,
  object     TEXT NOT NULL
) STRICT;
