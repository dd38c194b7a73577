-- +goose Up
-- What keeps sandboxes alive for as long as somebody renews it. Times are in nanoseconds; ended_at is 0 until it has ended.
CREATE TABLE leases (
  id         TEXT NOT NULL PRIMARY KEY,
  org_id     TEXT NOT NULL,
  purpose    TEXT NOT NULL,
  created_by TEXT NOT NULL,
  user_id    TEXT NOT NULL,
  ttl        INTEGER NOT NULL,
  grace      INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  state      TEXT NOT NULL,
  ended_at   INTEGER NOT NULL,
  renewals   INTEGER NOT NULL
) STRICT;
CREATE INDEX leases_live ON leases (org_id, id) WHERE ended_at = 0;
CREATE INDEX leases_ended ON leases (ended_at) WHERE ended_at > 0;
