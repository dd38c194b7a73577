package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// sandboxKind is the kind of a sandbox in the change log.
const sandboxKind = "sandbox"

// sandboxColumns are those of a list; decision and launch are large and read for one sandbox alone.
const sandboxColumns = `id, org_id, runner_uuid, runner_id, runner_revision, profile_id, profile_name, profile_revision, zone_name, zone_revision,
	status, status_reason, observation, exit_code, tags, created_by, user_id, created_at, started_at, ended_at, expires_at,
	cpu_millis, memory_bytes, gpus, slots, digest, timeline, revision`

func scanSandbox(r rowScanner, extra ...any) (*core.Sandbox, error) {
	var s core.Sandbox
	var created, started, ended, expires int64
	var tags, timeline string
	dest := append([]any{
		&s.ID, &s.OrgID, &s.RunnerUUID, &s.RunnerID, &s.RunnerRevision, &s.ProfileID, &s.ProfileName, &s.ProfileRevision, &s.ZoneName, &s.ZoneRevision,
		&s.Status, &s.StatusReason, &s.Observation, &s.ExitCode, &tags, &s.CreatedBy, &s.UserID, &created, &started, &ended, &expires,
		&s.Reserved.CPUMillis, &s.Reserved.MemoryBytes, &s.Reserved.GPUs, &s.Reserved.Sandboxes, &s.Digest, &timeline, &s.Revision,
	}, extra...)
	if err := r.Scan(dest...); err != nil {
		return nil, err
	}
	s.CreatedAt, s.StartedAt, s.EndedAt, s.ExpiresAt = instant(created), instant(started), instant(ended), instant(expires)
	if err := unmarshal(tags, &s.Tags); err != nil {
		return nil, err
	}
	return &s, unmarshal(timeline, &s.Timeline)
}

func unmarshal(text string, v any) error {
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fault.Internalf(err, "a document in the database cannot be read")
	}
	return nil
}

func marshal(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fault.Internalf(err, "a document cannot be written")
	}
	return string(raw), nil
}

func noSandbox(id string) (reason, format, arg string) {
	return fault.ReasonSandboxNotFound, "there is no sandbox %q", id
}

func (t *tx) Sandbox(ctx context.Context, orgID, id string) (*core.Sandbox, error) {
	var decision, launch string
	s, err := scanSandbox(t.row(ctx, `SELECT `+sandboxColumns+`, decision, launch FROM sandboxes WHERE id = $1 AND org_id = $2`, id, orgID), &decision, &launch)
	if err != nil {
		reason, format, arg := noSandbox(id)
		return nil, t.mark(notFound(err, reason, format, arg))
	}
	return s, complete(s, decision, launch)
}

// complete fills in what lists leave out.
func complete(s *core.Sandbox, decision, launch string) error {
	s.Decision = []byte(decision)
	s.Launch = &specpb.Launch{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(launch), s.Launch); err != nil {
		return fault.Internalf(err, "the launch of sandbox %s cannot be read", s.ID)
	}
	return nil
}

// filter builds the condition of a list. The text depends on which fields are set, never on their values.
type filter struct {
	text []string
	args []any
}

func (f *filter) arg(v any) string {
	f.args = append(f.args, v)
	return "$" + strconv.Itoa(len(f.args))
}

func (f *filter) one(column string, v string) {
	if v != "" {
		f.text = append(f.text, column+" = "+f.arg(v))
	}
}

func (f *filter) among(column string, values []string) {
	if len(values) == 0 {
		return
	}
	marks := make([]string, len(values))
	for i, v := range values {
		marks[i] = f.arg(v)
	}
	f.text = append(f.text, column+" IN ("+strings.Join(marks, ", ")+")")
}

func (t *tx) Sandboxes(ctx context.Context, want store.SandboxFilter, p store.Page) ([]*core.Sandbox, string, error) {
	f := &filter{}
	f.one("org_id", want.OrgID)
	f.one("runner_uuid", want.RunnerUUID)
	f.among("runner_id", want.RunnerIDs)
	f.among("profile_name", want.ProfileNames)
	statuses := make([]string, len(want.Statuses))
	for i, s := range want.Statuses {
		statuses[i] = string(s)
	}
	f.among("status", statuses)
	if !want.IncludeEnded {
		f.text = append(f.text, "terminal = 0")
	} else {
		f.text = append(f.text, "terminal IN (0, 1)") // names the column, so that the index on it is used
	}
	for _, tag := range want.Tags {
		f.text = append(f.text, "EXISTS (SELECT 1 FROM sandbox_tags g WHERE g.org_id = sandboxes.org_id AND g.tag = "+f.arg(tag)+" AND g.sandbox_id = sandboxes.id)")
	}
	if p.After != "" {
		at, id, err := parseAge(p.After)
		if err != nil {
			return nil, "", err
		}
		a, b := f.arg(at), f.arg(id)
		f.text = append(f.text, "(created_at < "+a+" OR (created_at = "+a+" AND id < "+b+"))")
	}
	size := pageSize(p.Size)
	query := `SELECT ` + sandboxColumns + ` FROM sandboxes WHERE ` + strings.Join(f.text, " AND ") + ` ORDER BY created_at DESC, id DESC LIMIT ` + f.arg(size+1)
	rows, err := t.rows(ctx, query, f.args...)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	return collect(t, rows, size, func() (*core.Sandbox, error) { return scanSandbox(rows) }, func(s *core.Sandbox) string {
		return fmt.Sprintf("%d:%s", s.CreatedAt.UnixNano(), s.ID)
	})
}

func parseAge(key string) (int64, string, error) {
	at, id, ok := strings.Cut(key, ":")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return 0, "", fault.Invalidf(fault.ReasonPageTokenInvalid, "not a key of this list")
	}
	return n, id, nil
}

func (t *tx) CountLive(ctx context.Context, runnerUUID string) (int64, error) {
	var n int64
	err := t.row(ctx, `SELECT COUNT(*) FROM sandboxes WHERE runner_uuid = $1 AND terminal = 0`, runnerUUID).Scan(&n)
	return n, t.mark(err)
}

func (t *tx) Unfinished(ctx context.Context, runnerUUID string) ([]*core.Sandbox, error) {
	rows, err := t.rows(ctx, `SELECT `+sandboxColumns+`, decision, launch FROM sandboxes WHERE runner_uuid = $1 AND terminal = 0 ORDER BY created_at, id`, runnerUUID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*core.Sandbox
	for rows.Next() {
		var decision, launch string
		s, err := scanSandbox(rows, &decision, &launch)
		if err != nil {
			return nil, t.mark(err)
		}
		if err := complete(s, decision, launch); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, t.mark(rows.Err())
}

func (t *tx) InsertSandbox(ctx context.Context, s *core.Sandbox) error {
	tags, err := marshal(nonNil(s.Tags))
	if err != nil {
		return err
	}
	timeline, err := marshal(nonNil(s.Timeline))
	if err != nil {
		return err
	}
	launch, err := protojson.Marshal(s.Launch)
	if err != nil {
		return fault.Internalf(err, "the launch cannot be written")
	}
	s.Revision = 1
	n, err := t.exec(ctx, `INSERT INTO sandboxes (id, org_id, runner_uuid, runner_id, runner_revision, profile_id, profile_name, profile_revision, zone_name, zone_revision,
		status, terminal, status_reason, observation, exit_code, tags, created_by, user_id, created_at, started_at, ended_at, expires_at,
		cpu_millis, memory_bytes, gpus, slots, digest, decision, launch, timeline, revision)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)
		ON CONFLICT DO NOTHING`,
		s.ID, s.OrgID, s.RunnerUUID, s.RunnerID, s.RunnerRevision, s.ProfileID, s.ProfileName, s.ProfileRevision, s.ZoneName, s.ZoneRevision,
		string(s.Status), flag(s.Status.Terminal()), s.StatusReason, string(s.Observation), s.ExitCode, tags, s.CreatedBy, s.UserID,
		nanos(s.CreatedAt), nanos(s.StartedAt), nanos(s.EndedAt), nanos(s.ExpiresAt),
		s.Reserved.CPUMillis, s.Reserved.MemoryBytes, s.Reserved.GPUs, s.Reserved.Sandboxes, s.Digest, string(s.Decision), string(launch), timeline, s.Revision)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.Exists, "SANDBOX_EXISTS", "a sandbox %s exists", s.ID)
	}
	for _, tag := range s.Tags {
		if _, err := t.exec(ctx, `INSERT INTO sandbox_tags (org_id, tag, sandbox_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, s.OrgID, tag, s.ID); err != nil {
			return err
		}
	}
	return t.changed(ctx, sandboxKind, s.OrgID, s.ID, s.Revision, false)
}

// nonNil makes an empty list of a nil one, so that both are stored as [].
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (t *tx) UpdateSandbox(ctx context.Context, s *core.Sandbox) error {
	timeline, err := marshal(nonNil(s.Timeline))
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE sandboxes SET status = $4, terminal = $5, status_reason = $6, observation = $7, exit_code = $8, started_at = $9, ended_at = $10, expires_at = $11,
		timeline = $12, revision = revision + 1 WHERE id = $1 AND org_id = $2 AND revision = $3 AND terminal = 0`,
		s.ID, s.OrgID, s.Revision, string(s.Status), flag(s.Status.Terminal()), s.StatusReason, string(s.Observation), s.ExitCode,
		nanos(s.StartedAt), nanos(s.EndedAt), nanos(s.ExpiresAt), timeline)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.unchangeable(ctx, s)
	}
	s.Revision++
	return t.changed(ctx, sandboxKind, s.OrgID, s.ID, s.Revision, false)
}

// unchangeable says why a row was not updated.
func (t *tx) unchangeable(ctx context.Context, s *core.Sandbox) error {
	var terminal int64
	err := t.row(ctx, `SELECT terminal FROM sandboxes WHERE id = $1 AND org_id = $2`, s.ID, s.OrgID).Scan(&terminal)
	switch {
	case err != nil:
		reason, format, arg := noSandbox(s.ID)
		return t.mark(notFound(err, reason, format, arg))
	case terminal != 0:
		return fault.Preconditionf("SANDBOX_ENDED", "sandbox %s has ended; how it ended does not change", s.ID)
	}
	return fault.New(fault.Conflict, "SANDBOX_CHANGED", "sandbox %s has changed meanwhile", s.ID)
}

func (t *tx) DeleteSandbox(ctx context.Context, orgID, id string) error {
	var revision int64
	err := t.row(ctx, `DELETE FROM sandboxes WHERE id = $1 AND org_id = $2 RETURNING revision`, id, orgID).Scan(&revision)
	if err != nil {
		reason, format, arg := noSandbox(id)
		return t.mark(notFound(err, reason, format, arg))
	}
	if _, err := t.exec(ctx, `DELETE FROM sandbox_tags WHERE sandbox_id = $1`, id); err != nil {
		return err
	}
	return t.changed(ctx, sandboxKind, orgID, id, revision+1, true)
}
