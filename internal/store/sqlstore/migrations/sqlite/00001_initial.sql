-- +goose Up
-- Times are nanoseconds since 1970, 0 for none. Ids, names and times enter as arguments.

-- The current revision of every live configuration object.
CREATE TABLE objects (
  org_id     TEXT NOT NULL,
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  name       TEXT NOT NULL,
  unique_key TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  body       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL,
  reason     TEXT NOT NULL,
  PRIMARY KEY (org_id, kind, id)
) STRICT;
CREATE UNIQUE INDEX objects_name ON objects (org_id, kind, name);
CREATE UNIQUE INDEX objects_unique_key ON objects (org_id, kind, unique_key) WHERE unique_key <> '';

-- Every revision that ever was. Append-only: outlives the object.
CREATE TABLE object_revisions (
  org_id     TEXT NOT NULL,
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  name       TEXT NOT NULL,
  unique_key TEXT NOT NULL,
  body       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  updated_by TEXT NOT NULL,
  reason     TEXT NOT NULL,
  deleted    INTEGER NOT NULL,
  PRIMARY KEY (org_id, kind, id, revision)
) STRICT;

-- What changes in a sandbox's life, and what lists show. closed_at is when the row became terminal, 0 while it is live.
CREATE TABLE sandboxes (
  id                TEXT NOT NULL PRIMARY KEY,
  org_id            TEXT NOT NULL,
  runner_uuid       TEXT NOT NULL,
  runner_id         TEXT NOT NULL,
  runner_revision   INTEGER NOT NULL,
  profile_id        TEXT NOT NULL,
  profile_name      TEXT NOT NULL,
  profile_revision  INTEGER NOT NULL,
  zone_name         TEXT NOT NULL,
  zone_revision     INTEGER NOT NULL,
  status            TEXT NOT NULL,
  status_reason     TEXT NOT NULL,
  observation       TEXT NOT NULL,
  exit_code         INTEGER,
  tags              TEXT NOT NULL,
  created_by        TEXT NOT NULL,
  user_id           TEXT NOT NULL,
  created_at        INTEGER NOT NULL,
  started_at        INTEGER NOT NULL,
  ended_at          INTEGER NOT NULL,
  expires_at        INTEGER NOT NULL,
  closed_at         INTEGER NOT NULL,
  cpu_millis        INTEGER NOT NULL,
  memory_bytes      INTEGER NOT NULL,
  gpus              INTEGER NOT NULL,
  slots             INTEGER NOT NULL,
  cpu_limit_millis  INTEGER NOT NULL,
  digest            TEXT NOT NULL,
  timeline          TEXT NOT NULL,
  revision          INTEGER NOT NULL
) STRICT;
-- Lists: one index per filter, each in the order of the list. What is live is found by its statuses. The last columns are
-- those of the other filters that never change, so that these are checked without a look at the row.
CREATE INDEX sandboxes_created ON sandboxes (org_id, created_at, id);
CREATE INDEX sandboxes_status ON sandboxes (org_id, status, created_at, id, profile_name, runner_id, runner_uuid);
CREATE INDEX sandboxes_profile ON sandboxes (org_id, profile_name, created_at, id, runner_id, runner_uuid);
CREATE INDEX sandboxes_runner ON sandboxes (org_id, runner_id, created_at, id, profile_name, runner_uuid);
-- Recovery and counts of one runner.
CREATE INDEX sandboxes_runner_live ON sandboxes (runner_uuid, created_at, id) WHERE closed_at = 0;
-- Usage: what is live, and what ended since.
CREATE INDEX sandboxes_usage ON sandboxes (org_id, closed_at) WHERE closed_at > 0;
CREATE INDEX sandboxes_usage_profile ON sandboxes (org_id, profile_id, closed_at);
CREATE INDEX sandboxes_usage_user ON sandboxes (org_id, user_id, closed_at);

-- What is written once with a sandbox and read with it alone: apart, so that a status write does not rewrite it.
CREATE TABLE sandbox_records (
  sandbox_id TEXT NOT NULL PRIMARY KEY,
  decision   TEXT NOT NULL,
  launch     TEXT NOT NULL
) STRICT;

CREATE TABLE sandbox_tags (
  org_id     TEXT NOT NULL,
  tag        TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  sandbox_id TEXT NOT NULL,
  PRIMARY KEY (org_id, tag, created_at, sandbox_id)
) STRICT, WITHOUT ROWID;

-- What a runner has and what is reserved of it.
CREATE TABLE capacities (
  runner_uuid       TEXT NOT NULL PRIMARY KEY,
  cpu_millis        INTEGER NOT NULL,
  memory_bytes      INTEGER NOT NULL,
  gpus              INTEGER NOT NULL,
  slots             INTEGER NOT NULL,
  used_cpu_millis   INTEGER NOT NULL,
  used_memory_bytes INTEGER NOT NULL,
  used_gpus         INTEGER NOT NULL,
  used_slots        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orgs (
  id         TEXT NOT NULL PRIMARY KEY,
  name       TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX orgs_name ON orgs (name);

CREATE TABLE tokens (
  id         TEXT NOT NULL PRIMARY KEY,
  org_id     TEXT NOT NULL,
  name       TEXT NOT NULL,
  role       TEXT NOT NULL,
  hash       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
CREATE INDEX tokens_org ON tokens (org_id, name, id);

-- The change log: the source of truth for watches. Append-only.
CREATE TABLE changes (
  seq      INTEGER NOT NULL PRIMARY KEY,
  kind     TEXT NOT NULL,
  org_id   TEXT NOT NULL,
  id       TEXT NOT NULL,
  revision INTEGER NOT NULL,
  deleted  INTEGER NOT NULL,
  at       INTEGER NOT NULL
) STRICT;

-- Numbers of the store itself.
CREATE TABLE settings (
  name  TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;
