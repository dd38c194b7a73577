package sqlstore

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/store"
)

const insertSandbox = `INSERT INTO sandboxes (id, org_id, runner_uuid, runner_id, runner_revision, profile_id, profile_name, profile_revision,
	zone_name, zone_revision, status, status_reason, observation, exit_code, tags, created_by, user_id,
	created_at, started_at, ended_at, expires_at, closed_at, cpu_millis, memory_bytes, gpus, slots, cpu_limit_millis,
	digest, timeline, service, server_id, revision)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, 1)
	ON CONFLICT (id) DO NOTHING`

// InsertSandbox implements store.Tx.
func (t *tx) InsertSandbox(ctx context.Context, s *core.Sandbox) error {
	if err := checkSandbox(s); err != nil {
		return err
	}
	request, err := launch.Marshal(s.Launch)
	if err != nil {
		return err
	}
	tags, err := encodeList(s.Tags)
	if err != nil {
		return err
	}
	timeline, err := encodeTimeline(s)
	if err != nil {
		return err
	}
	service, err := encodeService(s)
	if err != nil {
		return err
	}
	n, err := t.write(ctx, fpInsertSandbox, insertSandbox, s.ID, s.OrgID, s.RunnerUUID, s.RunnerID, s.RunnerRevision, s.ProfileID, s.ProfileName, s.ProfileRevision,
		s.ZoneName, s.ZoneRevision, string(s.Status), s.StatusReason, string(s.Observation), exitCode(s), tags, s.CreatedBy, s.UserID,
		nanos(s.CreatedAt), nanos(s.StartedAt), nanos(s.EndedAt), nanos(s.ExpiresAt), t.closedAt(s),
		s.Reserved.CPUMillis, s.Reserved.MemoryBytes, s.Reserved.GPUs, s.Reserved.Sandboxes, s.CPULimitMillis, s.Digest, timeline, service, s.ServerID)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "SANDBOX_EXISTS", "a sandbox with this id exists").WithField("id", "%.80q is taken", s.ID)
	}
	if _, err := t.write(ctx, fpInsertRecord, `INSERT INTO sandbox_records (sandbox_id, decision, launch) VALUES ($1, $2, $3)`,
		s.ID, string(s.Decision), string(request)); err != nil {
		return err
	}
	if err := t.insertTags(ctx, s); err != nil {
		return err
	}
	was := s.Revision
	t.onUndo(func() { s.Revision = was })
	s.Revision = 1
	t.audited(ctx, s.OrgID, s.CreatedBy, audit.Row{Kind: store.ChangeSandbox, ID: s.ID, Name: s.ProfileName, Revision: 1, After: s.Digest})
	t.changed(store.ChangeSandbox, s.OrgID, s.ID, 1, false)
	return nil
}

// insertTags writes all tags with one statement.
func (t *tx) insertTags(ctx context.Context, s *core.Sandbox) error {
	if len(s.Tags) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(`INSERT INTO sandbox_tags (org_id, tag, created_at, sandbox_id) VALUES `)
	args := append(make([]any, 0, 3+len(s.Tags)), s.OrgID, nanos(s.CreatedAt), s.ID)
	for i, tag := range s.Tags {
		if i > 0 {
			b.WriteString(`, `)
		}
		args = append(args, tag)
		b.WriteString(`($1, $` + strconv.Itoa(len(args)) + `, $2, $3)`)
	}
	b.WriteString(` ON CONFLICT (org_id, tag, created_at, sandbox_id) DO NOTHING`)
	_, err := t.write(ctx, fpInsertTag, b.String(), args...)
	return err
}

// UpdateSandbox implements store.Tx.
func (t *tx) UpdateSandbox(ctx context.Context, s *core.Sandbox) error {
	c := newChecks("the sandbox")
	checkMutable(c, s)
	if err := c.err(); err != nil {
		return err
	}
	timeline, err := encodeTimeline(s)
	if err != nil {
		return err
	}
	service, err := encodeService(s)
	if err != nil {
		return err
	}
	n, err := t.write(ctx, fpUpdateSandbox, `UPDATE sandboxes SET status = $1, status_reason = $2, observation = $3, exit_code = $4,
		started_at = $5, ended_at = $6, expires_at = $7, closed_at = $8, timeline = $9, service = $10, server_id = $11, revision = revision + 1
		WHERE id = $12 AND org_id = $13 AND revision = $14 AND closed_at = 0`,
		string(s.Status), s.StatusReason, string(s.Observation), exitCode(s), nanos(s.StartedAt), nanos(s.EndedAt), nanos(s.ExpiresAt), t.closedAt(s),
		timeline, service, s.ServerID, s.ID, s.OrgID, s.Revision)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.whyNotSandbox(ctx, s)
	}
	t.onUndo(func() { s.Revision-- })
	s.Revision++
	t.changed(store.ChangeSandbox, s.OrgID, s.ID, s.Revision, false)
	return nil
}

// PutSubmitted implements store.Tx.
func (t *tx) PutSubmitted(ctx context.Context, orgID, id string, object json.RawMessage) error {
	c := newChecks("the object submitted")
	c.most("object", len(object), store.MaxSubmitted)
	if err := c.err(); err != nil {
		return err
	}
	_, err := t.write(ctx, fpSubmitted, `INSERT INTO sandbox_submissions (sandbox_id, object)
		SELECT id, CAST($3 AS TEXT) FROM sandboxes WHERE id = $1 AND org_id = $2 ON CONFLICT (sandbox_id) DO NOTHING`, id, orgID, string(object))
	return err
}

func (t *tx) whyNotSandbox(ctx context.Context, s *core.Sandbox) error {
	var revision, closed int64
	found, err := t.one(ctx, `SELECT revision, closed_at FROM sandboxes WHERE id = $1 AND org_id = $2`, []any{s.ID, s.OrgID}, &revision, &closed)
	switch {
	case err != nil:
		return err
	case !found:
		return sandboxNotFound(s.ID)
	case closed != 0:
		return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %.80q has ended and is not changed any more", s.ID)
	}
	return stale("sandbox", s.ID, s.Revision, revision)
}

// DeleteSandbox implements store.Tx.
func (t *tx) DeleteSandbox(ctx context.Context, orgID, id string) error {
	var (
		revision, closed, created int64
		text                      string
		tags                      []string
	)
	found, err := t.one(ctx, `SELECT revision, closed_at, created_at, tags FROM sandboxes WHERE id = $1 AND org_id = $2`+t.engine.forUpdate(),
		[]any{id, orgID}, &revision, &closed, &created, &text)
	switch {
	case err != nil:
		return err
	case !found:
		return sandboxNotFound(id)
	case closed == 0:
		return fault.Preconditionf("SANDBOX_LIVE", "sandbox %.80q has not ended", id).WithHint("stop it first")
	}
	if err := decodeList(id, "tags", []byte(text), &tags); err != nil {
		return err
	}
	for _, tag := range tags {
		if _, err := t.write(ctx, fpDeleteSandbox, `DELETE FROM sandbox_tags WHERE org_id = $1 AND tag = $2 AND created_at = $3 AND sandbox_id = $4`,
			orgID, tag, created, id); err != nil {
			return err
		}
	}
	for _, query := range []string{
		`DELETE FROM traffic WHERE sandbox_id = $1`, `DELETE FROM sandbox_submissions WHERE sandbox_id = $1`, `DELETE FROM sandbox_records WHERE sandbox_id = $1`, `DELETE FROM sandboxes WHERE id = $1`,
	} {
		if _, err := t.write(ctx, fpDeleteSandbox, query, id); err != nil {
			return err
		}
	}
	t.changed(store.ChangeSandbox, orgID, id, revision+1, true)
	return nil
}

// closedAt is when a row becomes terminal, by the store's clock: EndedAt is only what was observed, and may be nothing.
func (t *tx) closedAt(s *core.Sandbox) int64 {
	if !s.Status.Terminal() {
		return 0
	}
	return nanos(t.store.now())
}

func exitCode(s *core.Sandbox) any {
	if s.ExitCode == nil {
		return nil
	}
	return int64(*s.ExitCode)
}

func encodeTimeline(s *core.Sandbox) (string, error) {
	text, err := encodeList(s.Timeline)
	if err != nil {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "the timeline cannot be written as JSON").WithCause(err)
	}
	if len(text) > store.MaxTimeline {
		return "", fault.Invalidf(fault.ReasonLimitExceeded, "the timeline has %d bytes as JSON, the limit is %d", len(text), store.MaxTimeline)
	}
	return text, nil
}

// encodeService returns where a sandbox is reached as it is stored, "" for nothing known.
func encodeService(s *core.Sandbox) (string, error) {
	if s.Service == nil {
		return "", nil
	}
	text, err := json.Marshal(s.Service)
	return string(text), err
}

func checkSandbox(s *core.Sandbox) error {
	c := newChecks("the sandbox")
	c.required("id", s.ID)
	c.required("org_id", s.OrgID)
	c.text("runner_uuid", s.RunnerUUID)
	c.text("runner_id", s.RunnerID)
	c.text("profile_id", s.ProfileID)
	c.text("profile_name", s.ProfileName)
	c.text("zone_name", s.ZoneName)
	c.text("user_id", s.UserID)
	c.text("digest", s.Digest)
	c.note("created_by", s.CreatedBy)
	c.most("tags", len(s.Tags), store.MaxTags)
	for _, tag := range s.Tags {
		c.required("tags", tag)
	}
	c.times("created_at", s.CreatedAt)
	c.amounts("reserved", s.Reserved)
	c.most("decision", len(s.Decision), store.MaxDecision)
	checkMutable(c, s)
	return c.err()
}

func checkMutable(c *checks, s *core.Sandbox) {
	if !s.Status.Terminal() && !slices.Contains(liveStatuses(), s.Status) {
		c.fault.WithField("status", "%.40q is no status", string(s.Status))
	}
	c.text("observation", string(s.Observation))
	if s.Service != nil {
		c.text("service.mode", s.Service.Mode)
		c.most("service.address", len(s.Service.Address), core.MaxServiceAddress)
		c.most("service.ports", len(s.Service.Ports), core.MaxServicePorts)
	}
	c.note("status_reason", s.StatusReason)
	c.times("started_at", s.StartedAt)
	c.times("ended_at", s.EndedAt)
	c.times("expires_at", s.ExpiresAt)
}
