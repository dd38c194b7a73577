-- +goose Up
-- Where the exposed ports of a sandbox are reached, as JSON; empty while nothing is known of that.
ALTER TABLE sandboxes ADD COLUMN service TEXT NOT NULL DEFAULT '';
