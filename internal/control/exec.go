package control

import (
	"context"
	"io"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// Limits of commands.
const (
	// MaxArgv is how many arguments and variables a command may have.
	MaxArgv = 4096
	// MaxArgvBytes is how many bytes they may have together.
	MaxArgvBytes = 1 << 20
	// MaxPath is the longest path, in bytes.
	MaxPath = 4095
)

// Exec starts a command in a sandbox. While the sandbox starts it waits, within ctx. The command is killed when ctx ends.
func (s *Service) Exec(ctx context.Context, p core.Principal, id string, e backend.Exec) (backend.Process, error) {
	if err := s.allow(ctx, p, "Exec", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return nil, err
	}
	if err := checkExec(e); err != nil {
		return nil, err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpExec)
	over := s.busy(id)
	process, err := link.Exec(ctx, id, e)
	if err != nil {
		over()
		return nil, s.linkFault(ctx, p.OrgID, id, err)
	}
	if c := audit.Of(ctx); c.Method() == "Exec" {
		s.did(c) // now, since it may go on for long
	}
	return &busyProcess{Process: process, over: over, stop: context.AfterFunc(ctx, over)}, nil
}

func checkExec(e backend.Exec) error {
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid command")
	if len(e.Argv) == 0 || e.Argv[0] == "" {
		f.WithField("command", "must name a program")
	}
	if len(e.Argv)+len(e.Env) > MaxArgv {
		f.WithField("command", "%d arguments and variables, the limit is %d", len(e.Argv)+len(e.Env), MaxArgv)
	}
	size, whole := 0, true
	for _, a := range e.Argv {
		size += len(a) + 1
		whole = whole && !strings.ContainsRune(a, 0)
	}
	for k, v := range e.Env {
		size += len(k) + len(v) + 2
		whole = whole && !strings.ContainsRune(k+v, 0)
		if k == "" || strings.Contains(k, "=") {
			f.WithField("env", "%.40q is no name of a variable", k)
		}
	}
	if size > MaxArgvBytes {
		f.WithField("command", "%d bytes of arguments and environment, the limit is %d", size, MaxArgvBytes)
	}
	if !whole || strings.ContainsRune(e.Dir, 0) {
		f.WithField("command", "contains a NUL, which no argument, variable or path can")
	}
	if len(e.Dir) > MaxPath {
		f.WithField("working_directory", "%d bytes, the limit is %d", len(e.Dir), MaxPath)
	}
	return orNil(f)
}

// ReadFile opens a file of a running sandbox. Errors have the metadata filepath.
func (s *Service) ReadFile(ctx context.Context, p core.Principal, id, path string, limit int64) (io.ReadCloser, int64, error) {
	if err := s.allow(ctx, p, "ReadFile"); err != nil {
		return nil, 0, err
	}
	if err := checkPath(id, path); err != nil {
		return nil, 0, err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return nil, 0, err
	}
	failpoint.Hit(fpReadFile)
	over := s.busy(id)
	r, size, err := link.ReadFile(ctx, id, path, limit)
	if err != nil {
		over()
		return nil, 0, aboutFile(s.linkFault(ctx, p.OrgID, id, err), id, path)
	}
	return &busyReader{ReadCloser: r, over: over}, size, nil
}

// WriteFile creates a file of a running sandbox, or replaces its content, with all of r or not at all. Errors have the
// metadata filepath.
func (s *Service) WriteFile(ctx context.Context, p core.Principal, id, path string, mode uint32, r io.Reader) error {
	if err := s.allow(ctx, p, "WriteFile", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	if err := checkPath(id, path); err != nil {
		return err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return err
	}
	failpoint.Hit(fpWriteFile)
	defer s.busy(id)()
	return aboutFile(s.linkFault(ctx, p.OrgID, id, link.WriteFile(ctx, id, path, mode, r)), id, path)
}

// reach returns the link to the runner of a sandbox that has not ended.
func (s *Service) reach(ctx context.Context, orgID, id string) (runner.Link, error) {
	row, err := s.peek(ctx, orgID, id)
	if err != nil {
		return nil, err
	}
	switch now := s.overlay(row); now.Status {
	case core.StatusCompleted, core.StatusFailed, core.StatusTerminating:
		return nil, notRunning(now)
	case core.StatusPaused:
		return nil, backend.ErrPaused(id)
	case core.StatusPending, core.StatusCreating, core.StatusRunning:
	}
	if err := s.handedOver(ctx, id); err != nil {
		return nil, err
	}
	link, since := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return nil, s.unreachable(row, since)
	}
	return link, nil
}

// linkFault turns a runner's word that it does not know a sandbox into what it means: the sandbox has ended since, or it is
// just being handed over. To the caller a sandbox that can be read is never a missing one.
func (s *Service) linkFault(ctx context.Context, orgID, id string, err error) error {
	if !fault.Is(err, fault.NotFound) || !fault.HasReason(err, fault.ReasonSandboxNotFound) {
		return err
	}
	row, again := s.peek(ctx, orgID, id)
	switch {
	case again != nil:
		return again
	case row.Status.Terminal():
		return notRunning(row)
	}
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s does not have sandbox %s yet, or not any more", row.RunnerID, id).
		WithMeta("sandbox_id", id).WithMeta("runner_id", row.RunnerID).WithRetry(replanRetry).WithCause(err)
}

// notRunning says that a sandbox has ended, and why as far as it is known.
func notRunning(row *core.Sandbox) error {
	e := fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s is %s", row.ID, row.Status).
		WithMeta("sandbox_id", row.ID).WithMeta("status", string(row.Status))
	if row.StatusReason != "" {
		e.Message += ": " + row.StatusReason
	}
	return e
}

func checkPath(id, path string) error {
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid path").WithMeta("filepath", clipPath(path)).WithMeta("sandbox_id", id)
	switch {
	case path == "" || path[0] != '/':
		f.WithField("filepath", "%.80q is not an absolute path", path)
	case len(path) > MaxPath:
		f.WithField("filepath", "has %d bytes, the limit is %d", len(path), MaxPath)
	case strings.ContainsRune(path, 0):
		f.WithField("filepath", "contains a NUL")
	default:
		return nil
	}
	return f
}

func clipPath(path string) string { return path[:min(len(path), MaxPath)] }

// aboutFile adds to an error which file of which sandbox it is about; published clients look for that. A directory is no dead end.
func aboutFile(err error, id, path string) error {
	if err == nil {
		return nil
	}
	f := fault.From(err).Clone()
	for key, value := range map[string]string{"filepath": clipPath(path), "sandbox_id": id} {
		if f.Meta[key] == "" {
			f.WithMeta(key, value)
		}
	}
	if f.Reason == fault.ReasonFileIsDirectory && f.Hint == "" {
		f.WithHint("directories move as archives: ReadArchive and WriteArchive of berm.v1.FileService, or berm cp")
	}
	return f
}
