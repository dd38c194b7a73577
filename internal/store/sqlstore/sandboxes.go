package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/store"
)

// sandboxColumns are read by scanSandbox, in this order.
const sandboxColumns = `s.id, s.org_id, s.runner_uuid, s.runner_id, s.runner_revision, s.profile_id, s.profile_name, s.profile_revision,
	s.zone_name, s.zone_revision, s.status, s.status_reason, s.observation, s.exit_code, s.tags, s.created_by, s.user_id,
	s.created_at, s.started_at, s.ended_at, s.expires_at, s.cpu_millis, s.memory_bytes, s.gpus, s.slots, s.cpu_limit_millis,
	s.digest, s.timeline, s.service, s.server_id, s.revision`

// scanSandbox reads a row of sandboxColumns and what a query has behind them.
func scanSandbox(rows *sql.Rows, more ...any) (*core.Sandbox, error) {
	var (
		s                               core.Sandbox
		tags, timeline, service         sql.RawBytes
		created, started, ended, expire int64
	)
	dest := append(make([]any, 0, 33), &s.ID, &s.OrgID, &s.RunnerUUID, &s.RunnerID, &s.RunnerRevision, &s.ProfileID, &s.ProfileName, &s.ProfileRevision,
		&s.ZoneName, &s.ZoneRevision, &s.Status, &s.StatusReason, &s.Observation, &s.ExitCode, &tags, &s.CreatedBy, &s.UserID,
		&created, &started, &ended, &expire, &s.Reserved.CPUMillis, &s.Reserved.MemoryBytes, &s.Reserved.GPUs, &s.Reserved.Sandboxes,
		&s.CPULimitMillis, &s.Digest, &timeline, &service, &s.ServerID, &s.Revision)
	if err := rows.Scan(append(dest, more...)...); err != nil {
		return nil, err
	}
	s.CreatedAt, s.StartedAt, s.EndedAt, s.ExpiresAt = fromNanos(created), fromNanos(started), fromNanos(ended), fromNanos(expire)
	if err := decodeList(s.ID, "tags", tags, &s.Tags); err != nil {
		return nil, err
	}
	if err := decodeList(s.ID, "timeline", timeline, &s.Timeline); err != nil {
		return nil, err
	}
	if len(service) > 0 {
		if err := json.Unmarshal(service, &s.Service); err != nil {
			return nil, unreadable(err, "the service of sandbox "+s.ID)
		}
	}
	return &s, nil
}

// decodeList reads a stored list; an empty one is nil.
func decodeList[T any](id, what string, text []byte, into *[]T) error {
	if len(text) <= len("[]") {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return unreadable(err, what+" of sandbox "+id)
	}
	return nil
}

func encodeList[T any](list []T) (string, error) {
	if len(list) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// Sandbox implements store.Reader.
func (r *reader) Sandbox(ctx context.Context, orgID, id string) (*core.Sandbox, error) {
	var s *core.Sandbox
	err := r.each(ctx, func(rows *sql.Rows) (err error) {
		var decision, request sql.RawBytes
		if s, err = scanSandbox(rows, &decision, &request); err != nil {
			return err
		}
		if len(decision) > 0 {
			s.Decision = json.RawMessage(append([]byte(nil), decision...))
		}
		if len(request) > 0 {
			if s.Launch, err = launch.Unmarshal(request); err != nil {
				return unreadable(err, "the request of sandbox "+s.ID)
			}
		}
		return nil
	}, `SELECT `+sandboxColumns+`, d.decision, d.launch FROM sandboxes s JOIN sandbox_records d ON d.sandbox_id = s.id
		WHERE s.id = $1 AND s.org_id = $2`, id, orgID)
	if err == nil && s == nil {
		err = sandboxNotFound(id)
	}
	return s, err
}

// Submitted implements store.Reader.
func (r *reader) Submitted(ctx context.Context, orgID, id string) (json.RawMessage, error) {
	var object sql.NullString
	found, err := r.one(ctx, `SELECT o.object FROM sandboxes s LEFT JOIN sandbox_submissions o ON o.sandbox_id = s.id
		WHERE s.id = $1 AND s.org_id = $2`, []any{id, orgID}, &object)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, sandboxNotFound(id)
	case !object.Valid:
		return nil, nil
	}
	return json.RawMessage(object.String), nil
}

// Unfinished implements store.Reader.
func (r *reader) Unfinished(ctx context.Context, runnerUUID string) ([]*core.Sandbox, error) {
	return r.sandboxes(ctx, `SELECT `+sandboxColumns+` FROM sandboxes s
		WHERE s.runner_uuid = $1 AND s.closed_at = 0 ORDER BY s.created_at, s.id`, runnerUUID)
}

// pending walks sandboxes_status, organization by organization.
const pending = `SELECT ` + sandboxColumns + ` FROM orgs o JOIN sandboxes s ON s.org_id = o.id AND s.status = 'PENDING'`

// Pending implements store.Reader.
func (r *reader) Pending(ctx context.Context) ([]*core.Sandbox, error) {
	return r.sandboxes(ctx, pending)
}

// endedBefore walks sandboxes_usage: closed_at > 0 is what that index holds.
const endedBefore = `SELECT ` + sandboxColumns + ` FROM sandboxes s
	WHERE s.org_id = $1 AND s.closed_at > 0 AND s.closed_at < $2 ORDER BY s.closed_at LIMIT $3`

// EndedBefore implements store.Reader.
func (r *reader) EndedBefore(ctx context.Context, orgID string, before time.Time) ([]*core.Sandbox, error) {
	return r.sandboxes(ctx, endedBefore, orgID, nanos(before), int64(store.MaxPage))
}

func (r *reader) sandboxes(ctx context.Context, query string, args ...any) ([]*core.Sandbox, error) {
	var all []*core.Sandbox
	err := r.each(ctx, func(rows *sql.Rows) error {
		s, err := scanSandbox(rows)
		all = append(all, s)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// CountLive implements store.Reader.
func (r *reader) CountLive(ctx context.Context, runnerUUID string) (int64, error) {
	var n int64
	_, err := r.one(ctx, `SELECT count(*) FROM sandboxes WHERE runner_uuid = $1 AND closed_at = 0`, []any{runnerUUID}, &n)
	return n, err
}

func sandboxNotFound(id string) error {
	return fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %.80q does not exist", id)
}

// unreadable is a stored text that this program did not write, or not so.
func unreadable(err error, what string) error {
	return fault.Internalf(err, "%s cannot be read from the store", what)
}
