-- +goose Up
-- Texts are compared by bytes, as SQLite does.
-- Times are nanoseconds since 1970, 0 for none. Ids, names and times enter as arguments.

-- The current revision of every live configuration object.
CREATE TABLE objects (
  org_id     TEXT COLLATE "C" NOT NULL,
  kind       TEXT COLLATE "C" NOT NULL,
  id         TEXT COLLATE "C" NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  unique_key TEXT COLLATE "C" NOT NULL,
  revision   BIGINT NOT NULL,
  body       TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT COLLATE "C" NOT NULL,
  reason     TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (org_id, kind, id)
);
CREATE UNIQUE INDEX objects_name ON objects (org_id, kind, name);
CREATE UNIQUE INDEX objects_unique_key ON objects (org_id, kind, unique_key) WHERE unique_key <> '';

-- Every revision that ever was. Append-only: outlives the object.
CREATE TABLE object_revisions (
  org_id     TEXT COLLATE "C" NOT NULL,
  kind       TEXT COLLATE "C" NOT NULL,
  id         TEXT COLLATE "C" NOT NULL,
  revision   BIGINT NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  unique_key TEXT COLLATE "C" NOT NULL,
  body       TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT COLLATE "C" NOT NULL,
  reason     TEXT COLLATE "C" NOT NULL,
  deleted    BIGINT NOT NULL,
  PRIMARY KEY (org_id, kind, id, revision)
);

-- What changes in a sandbox's life, and what lists show. closed_at is when the row became terminal, 0 while it is live.
CREATE TABLE sandboxes (
  id                TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  org_id            TEXT COLLATE "C" NOT NULL,
  runner_uuid       TEXT COLLATE "C" NOT NULL,
  runner_id         TEXT COLLATE "C" NOT NULL,
  runner_revision   BIGINT NOT NULL,
  profile_id        TEXT COLLATE "C" NOT NULL,
  profile_name      TEXT COLLATE "C" NOT NULL,
  profile_revision  BIGINT NOT NULL,
  zone_name         TEXT COLLATE "C" NOT NULL,
  zone_revision     BIGINT NOT NULL,
  status            TEXT COLLATE "C" NOT NULL,
  status_reason     TEXT COLLATE "C" NOT NULL,
  observation       TEXT COLLATE "C" NOT NULL,
  exit_code         BIGINT,
  tags              TEXT COLLATE "C" NOT NULL,
  created_by        TEXT COLLATE "C" NOT NULL,
  user_id           TEXT COLLATE "C" NOT NULL,
  created_at        BIGINT NOT NULL,
  started_at        BIGINT NOT NULL,
  ended_at          BIGINT NOT NULL,
  expires_at        BIGINT NOT NULL,
  closed_at         BIGINT NOT NULL,
  cpu_millis        BIGINT NOT NULL,
  memory_bytes      BIGINT NOT NULL,
  gpus              BIGINT NOT NULL,
  slots             BIGINT NOT NULL,
  cpu_limit_millis  BIGINT NOT NULL,
  digest            TEXT COLLATE "C" NOT NULL,
  timeline          TEXT COLLATE "C" NOT NULL,
  revision          BIGINT NOT NULL
);
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
  sandbox_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  decision   TEXT COLLATE "C" NOT NULL,
  launch     TEXT COLLATE "C" NOT NULL
);

CREATE TABLE sandbox_tags (
  org_id     TEXT COLLATE "C" NOT NULL,
  tag        TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  sandbox_id TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (org_id, tag, created_at, sandbox_id)
);

-- What a runner has and what is reserved of it.
CREATE TABLE capacities (
  runner_uuid       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  cpu_millis        BIGINT NOT NULL,
  memory_bytes      BIGINT NOT NULL,
  gpus              BIGINT NOT NULL,
  slots             BIGINT NOT NULL,
  used_cpu_millis   BIGINT NOT NULL,
  used_memory_bytes BIGINT NOT NULL,
  used_gpus         BIGINT NOT NULL,
  used_slots        BIGINT NOT NULL
);

CREATE TABLE orgs (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name       TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX orgs_name ON orgs (name);

CREATE TABLE tokens (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  org_id     TEXT COLLATE "C" NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  role       TEXT COLLATE "C" NOT NULL,
  hash       TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT COLLATE "C" NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
CREATE INDEX tokens_org ON tokens (org_id, name, id);

-- The change log: the source of truth for watches. Append-only.
CREATE TABLE changes (
  seq      BIGINT NOT NULL PRIMARY KEY,
  kind     TEXT COLLATE "C" NOT NULL,
  org_id   TEXT COLLATE "C" NOT NULL,
  id       TEXT COLLATE "C" NOT NULL,
  revision BIGINT NOT NULL,
  deleted  BIGINT NOT NULL,
  at       BIGINT NOT NULL
);

-- Numbers of the store itself.
CREATE TABLE settings (
  name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL
);
