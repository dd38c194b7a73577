package backendtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// logged is what a reader gave until its end.
type logged struct {
	out, err, all, session string
	first, end, lost       int64
	failed                 error
}

// logs reads output to the end of the reader, and checks that offsets have no holes but those that are told.
func (s *suite) logs(t *testing.T, id string, q backend.LogQuery) logged {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	r, err := s.b.Logs(ctx, id, q)
	if err != nil {
		t.Fatalf("logs: %v", err)
	}
	defer func() { _ = r.Close() }()
	l := logged{first: -1}
	for {
		f, err := r.Recv()
		if err != nil {
			l.session = r.Session()
			if !errors.Is(err, io.EOF) {
				l.failed = err
			}
			return l
		}
		l.take(t, f)
	}
}

func (l *logged) take(t *testing.T, f backend.LogFrame) {
	t.Helper()
	if l.first < 0 {
		l.first, l.end = f.Offset, f.Offset
	}
	if f.Offset != l.end {
		t.Errorf("a frame at offset %d follows one that ends at %d", f.Offset, l.end)
	}
	l.end = f.End()
	if len(f.Data) > backend.MaxExecChunk {
		t.Errorf("a frame has %d bytes", len(f.Data))
	}
	switch f.Kind {
	case backend.LogStdout:
		l.out += string(f.Data)
	case backend.LogStderr:
		l.err += string(f.Data)
	case backend.LogGap:
		l.lost += f.Lost
		if len(f.Data) > 0 || f.Lost <= 0 {
			t.Errorf("a gap of %d bytes with %d", f.Lost, len(f.Data))
		}
		return
	}
	l.all += string(f.Data)
	if f.At.IsZero() {
		t.Error("a frame has no time")
	}
}

func (s *suite) testLogs() {
	before := time.Now().Add(-time.Minute)
	id := s.create(s.T, s.work("sh", "-c", "echo one; echo two >&2; echo three; exit 3"))
	s.ended(s.T, id)
	s.sub("everything, from the first byte", func(t *testing.T) {
		l := s.logs(t, id, backend.LogQuery{})
		if l.out != "one\nthree\n" || l.err != "two\n" || l.first != 0 || l.end != 14 || l.lost != 0 || l.failed != nil || l.session == "" {
			t.Errorf("%+v", l)
		}
		if again := s.logs(t, id, backend.LogQuery{Follow: true}); again != l {
			t.Errorf("followed %+v, read %+v", again, l)
		}
	})
	s.sub("the last lines", func(t *testing.T) {
		whole := s.logs(t, id, backend.LogQuery{}).all
		for n, want := range map[int64]int{0: 0, 1: 1, 2: 2, 3: 3, 50: 3} {
			got := s.logs(t, id, backend.LogQuery{Tail: &n}).all
			if strings.Count(got, "\n") != want || !strings.HasSuffix(whole, got) {
				t.Errorf("last %d lines: %q", n, got)
			}
		}
	})
	s.sub("since", func(t *testing.T) {
		if got := s.logs(t, id, backend.LogQuery{Since: before}).all; len(got) != 14 {
			t.Errorf("since before the start: %q", got)
		}
		if got := s.logs(t, id, backend.LogQuery{Since: time.Now().Add(time.Minute)}).all; got != "" {
			t.Errorf("since after the end: %q", got)
		}
	})
	s.sub("resumed at any offset", func(t *testing.T) { s.resumeLogs(t, id) })
	s.sub("after it was deleted", func(t *testing.T) {
		whole := s.logs(t, id, backend.LogQuery{})
		if err := s.b.Delete(s.ctx, id); err != nil {
			t.Fatal(err)
		}
		if l := s.logs(t, id, backend.LogQuery{}); l != whole {
			t.Errorf("%+v, want %+v", l, whole)
		}
	})
	s.sub("followed while it is printed, also by one who came first", s.followLogs)
	s.sub("of nothing", func(t *testing.T) {
		silent := s.create(t, s.work("true"))
		if l := s.logs(t, silent, backend.LogQuery{Follow: true}); l.all != "" || l.failed != nil {
			t.Errorf("%+v", l)
		}
		_, err := s.b.Logs(s.ctx, "sbx-unknown", backend.LogQuery{})
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	})
	s.sub("it ends with the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(s.ctx)
		r, err := s.b.Logs(ctx, s.idle(t), backend.LogQuery{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, err := r.Recv(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
		_ = r.Close()
	})
	s.sub("it ends when another goroutine closes it", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		r, err := s.b.Logs(ctx, s.create(t, s.work("sh", "-c", "echo ready; sleep infinity")), backend.LogQuery{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Recv(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := r.Recv()
			ended <- err
		}()
		time.AfterFunc(10*time.Millisecond, func() { _ = r.Close() })
		if err := <-ended; err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
			t.Errorf("%v, %v", err, ctx.Err())
		}
		if _, err := r.Recv(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	})
}

func (s *suite) resumeLogs(t *testing.T, id string) {
	whole := s.logs(t, id, backend.LogQuery{})
	for from := range len(whole.all) + 1 {
		l := s.logs(t, id, backend.LogQuery{Session: whole.session, Offset: int64(from), Follow: true})
		if l.all != whole.all[from:] || l.failed != nil || l.session != whole.session {
			t.Errorf("from %d: %+v", from, l)
		}
	}
	_, err := s.b.Logs(s.ctx, id, backend.LogQuery{Session: "another", Offset: 1})
	wantFault(t, err, fault.NotFound, fault.ReasonSessionNotFound)
	for _, offset := range []int64{15, 1 << 60, -1} {
		_, err = s.b.Logs(s.ctx, id, backend.LogQuery{Session: whole.session, Offset: offset})
		wantFault(t, err, fault.Invalid, fault.ReasonResumeOffset)
	}
}

func (s *suite) followLogs(t *testing.T) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	id := s.create(t, s.work("sh", "-c", "echo ready; sleep infinity"))
	r, err := s.b.Logs(ctx, id, backend.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var l logged
	for !strings.HasSuffix(l.all, "ready\n") {
		f, err := r.Recv()
		if err != nil {
			t.Fatalf("recv: %v after %q", err, l.all)
		}
		l.take(t, f)
	}
	if now := s.logs(t, id, backend.LogQuery{}); now.all != "ready\n" || now.failed != nil {
		t.Errorf("not followed: %+v", now)
	}
	if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := r.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the end: %v", err)
		}
		l.take(t, f)
	}
	if l.all != "ready\n" {
		t.Errorf("%q", l.all)
	}
}
