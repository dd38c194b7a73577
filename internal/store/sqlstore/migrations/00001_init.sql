-- +goose Up

-- One text for both engines. Times are Unix nanoseconds, documents are canonical JSON as text, flags are 0 or 1.

CREATE TABLE orgs (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  org_id TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL
);
CREATE INDEX tokens_by_org ON tokens (org_id, created_at, id);

-- The live state of configuration objects of all kinds. secondary is NULL when an object has no second unique value.
CREATE TABLE objects (
  kind TEXT NOT NULL,
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  secondary TEXT,
  revision BIGINT NOT NULL,
  body TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (kind, org_id, id),
  UNIQUE (kind, org_id, name),
  UNIQUE (kind, org_id, secondary)
);

-- Append-only: what every object was, and that it was deleted. Revisions outlive the object.
CREATE TABLE object_revisions (
  kind TEXT NOT NULL,
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  revision BIGINT NOT NULL,
  name TEXT NOT NULL,
  secondary TEXT,
  body TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  deleted BIGINT NOT NULL,
  PRIMARY KEY (kind, org_id, id, revision)
);

CREATE TABLE sandboxes (
  id TEXT PRIMARY KEY,
  org_id TEXT NOT NULL,
  runner_uuid TEXT NOT NULL,
  runner_id TEXT NOT NULL,
  runner_revision BIGINT NOT NULL,
  profile_id TEXT NOT NULL,
  profile_name TEXT NOT NULL,
  profile_revision BIGINT NOT NULL,
  zone_name TEXT NOT NULL,
  zone_revision BIGINT NOT NULL,
  status TEXT NOT NULL,
  terminal BIGINT NOT NULL,
  status_reason TEXT NOT NULL,
  observation TEXT NOT NULL,
  exit_code BIGINT,
  tags TEXT NOT NULL,
  created_by TEXT NOT NULL,
  user_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  cpu_millis BIGINT NOT NULL,
  memory_bytes BIGINT NOT NULL,
  gpus BIGINT NOT NULL,
  slots BIGINT NOT NULL,
  digest TEXT NOT NULL,
  decision TEXT NOT NULL,
  launch TEXT NOT NULL,
  timeline TEXT NOT NULL,
  revision BIGINT NOT NULL
);
CREATE INDEX sandboxes_by_age ON sandboxes (org_id, terminal, created_at DESC, id DESC);
CREATE INDEX sandboxes_by_runner ON sandboxes (runner_uuid, terminal);
CREATE INDEX sandboxes_by_end ON sandboxes (org_id, ended_at);

CREATE TABLE sandbox_tags (
  org_id TEXT NOT NULL,
  tag TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  PRIMARY KEY (org_id, tag, sandbox_id)
);
CREATE INDEX sandbox_tags_by_sandbox ON sandbox_tags (sandbox_id);

CREATE TABLE capacity (
  runner_uuid TEXT PRIMARY KEY,
  cpu_millis BIGINT NOT NULL,
  memory_bytes BIGINT NOT NULL,
  gpus BIGINT NOT NULL,
  slots BIGINT NOT NULL,
  used_cpu_millis BIGINT NOT NULL,
  used_memory_bytes BIGINT NOT NULL,
  used_gpus BIGINT NOT NULL,
  used_slots BIGINT NOT NULL
);

-- The change log. seq is the number of the transaction shifted left, plus the change's place in it: see changes.go.
CREATE TABLE changes (
  seq BIGINT PRIMARY KEY,
  kind TEXT NOT NULL,
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  revision BIGINT NOT NULL,
  deleted BIGINT NOT NULL,
  at BIGINT NOT NULL
);

-- Numbers transactions on an engine that does not (SQLite).
CREATE TABLE transactions (
  name TEXT PRIMARY KEY,
  number BIGINT NOT NULL
);
INSERT INTO transactions (name, number) VALUES ('last', 0);

-- +goose Down
SELECT 1;
