-- +goose Up
-- What keeps sandboxes alive for as long as somebody renews it. Times are in nanoseconds; ended_at is 0 until it has ended.
CREATE TABLE leases (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  org_id     TEXT COLLATE "C" NOT NULL,
  purpose    TEXT NOT NULL,
  created_by TEXT NOT NULL,
  user_id    TEXT COLLATE "C" NOT NULL,
  ttl        BIGINT NOT NULL,
  grace      BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  state      TEXT COLLATE "C" NOT NULL,
  ended_at   BIGINT NOT NULL,
  renewals   BIGINT NOT NULL
);
CREATE INDEX leases_live ON leases (org_id, id) WHERE ended_at = 0;
CREATE INDEX leases_ended ON leases (ended_at) WHERE ended_at > 0;
