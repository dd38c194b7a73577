-- +goose Up
-- The runner that a token is for, and the cluster or machine that got it: both empty for tokens of the API.
ALTER TABLE tokens ADD COLUMN runner_uuid TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN identity TEXT COLLATE "C" NOT NULL DEFAULT '';
