package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/kept"
)

// keep starts a command that is kept.
func (s *suite) keep(t *testing.T, sandbox string, e backend.KeptExec) backend.ExecState {
	t.Helper()
	if e.ID == "" {
		e.ID = fmt.Sprintf("x-%d", sequence.Add(1))
	}
	st, err := s.b.CreateExec(s.ctx, sandbox, e)
	if err != nil {
		t.Fatalf("create %q: %v", e.Argv, err)
	}
	return st
}

// joined is what came of a command that was joined.
type joined struct {
	out, err bytes.Buffer
	// first is the offset of the first byte, next that behind the last.
	first, next int64
	gaps        int64
	end         *backend.ExecState
}

// join reads a command from an offset to the end, or until limit bytes came.
func (s *suite) join(t *testing.T, sandbox, id string, offset, limit int64) *joined {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	a, err := s.b.AttachExec(ctx, sandbox, id, backend.Attach{Output: true, Offset: offset, Follow: true})
	if err != nil {
		t.Fatalf("attach at %d: %v", offset, err)
	}
	defer func() { _ = a.Close() }()
	return read(t, a, offset, limit)
}

func read(t *testing.T, a backend.Attachment, offset, limit int64) *joined {
	t.Helper()
	j := &joined{first: -1, next: offset}
	for limit < 0 || j.next < offset+limit {
		f, err := a.Recv()
		if err != nil {
			t.Fatalf("recv at %d: %v", j.next, err)
		}
		switch f.Kind {
		case backend.AttachTaken:
			continue
		case backend.AttachExit:
			j.end = f.End
			j.gaps += f.End.End - j.next
			if _, err := a.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %v", err)
			}
			return j
		case backend.AttachStdout:
			j.out.Write(f.Data)
		case backend.AttachStderr:
			j.err.Write(f.Data)
		}
		if f.Offset < j.next || len(f.Data) > backend.MaxExecChunk || f.At.IsZero() {
			t.Fatalf("a piece of %d bytes at %d, behind %d, of %v", len(f.Data), f.Offset, j.next, f.At)
		}
		if j.first < 0 {
			j.first = f.Offset
		}
		j.gaps += f.Offset - j.next
		j.next = f.Offset + int64(len(f.Data))
		if err := a.Received(j.next); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("received: %v", err)
		}
	}
	return j
}

func (s *suite) testKept() {
	id := s.idle(s.T)
	s.sub("output is there later, from every offset, with one end", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, Env: map[string]string{"A": "b"}}})
		all := s.join(t, id, st.ID, 0, -1)
		if all.out.String() != "out\n" || all.err.String() != "err\n" || *all.end.ExitCode != 3 || all.end.Signal != 0 || !all.end.Done || all.gaps != 0 {
			t.Fatalf("%q %q %+v", all.out.String(), all.err.String(), all.end)
		}
		for offset := range all.end.End + 1 {
			if got := s.join(t, id, st.ID, offset, -1); got.next != all.next || got.gaps != 0 || int64(got.out.Len()+got.err.Len()) != all.end.End-offset {
				t.Errorf("from %d: %q %q", offset, got.out.String(), got.err.String())
			}
		}
		_, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Output: true, Offset: all.end.End + 1})
		wantFault(t, err, fault.Invalid, fault.ReasonResumeOffset)
		listed, err := s.b.ListExecs(s.ctx, id, st.ID)
		if err != nil || len(listed) != 1 || *listed[0].ExitCode != 3 || listed[0].Command[0] != "sh" || listed[0].EndedAt.Before(listed[0].CreatedAt) {
			t.Errorf("listed: %+v %v", listed, err)
		}
	})
	s.sub("once per name", func(t *testing.T) {
		e := backend.KeptExec{ID: "once", Exec: backend.Exec{Argv: []string{"echo", "once"}}}
		first := s.keep(t, id, e)
		if again := s.keep(t, id, e); !again.CreatedAt.Equal(first.CreatedAt) {
			t.Errorf("a repeated create started another: %+v, then %+v", first, again)
		}
		other := e
		other.Argv = []string{"echo", "twice"}
		_, err := s.b.CreateExec(s.ctx, id, other)
		wantFault(t, err, fault.Exists, fault.ReasonExecExists)
		if err := s.b.DeleteExec(s.ctx, id, "once"); err != nil {
			t.Fatal(err)
		}
		_, err = s.b.ListExecs(s.ctx, id, "once")
		wantFault(t, err, fault.NotFound, fault.ReasonExecNotFound)
		_, err = s.b.CreateExec(s.ctx, id, e) // It came late: it must not run again.
		wantFault(t, err, fault.Exists, fault.ReasonExecExists)
	})
	s.sub("what cannot start leaves nothing", func(t *testing.T) {
		_, err := s.b.CreateExec(s.ctx, id, backend.KeptExec{ID: "none", Exec: backend.Exec{Argv: []string{"no-such-command-here"}}})
		wantFault(t, err, fault.Precondition, fault.ReasonCommandNotFound)
		s.keep(t, id, backend.KeptExec{ID: "none", Exec: backend.Exec{Argv: []string{"true"}}})
	})
	s.sub("unknown and ended sandboxes", func(t *testing.T) {
		_, err := s.b.CreateExec(s.ctx, "sbx-unknown", backend.KeptExec{ID: "x", Exec: backend.Exec{Argv: []string{"true"}}})
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		ended := s.create(t, s.work("true"))
		s.ended(t, ended)
		_, err = s.b.ListExecs(s.ctx, ended, "")
		wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	})
	s.keptOutput(id)
	s.keptInput(id)
	s.keptEnds(id)
}

func (s *suite) keptOutput(id string) {
	const size = 4 << 20
	zeros := backend.Exec{Argv: []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}}
	s.sub("a command waits for its reader, and nothing is lost", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: zeros, OutputLimit: kept.MinOutput})
		part := s.join(t, id, st.ID, 0, size/2)
		now, err := s.b.ListExecs(s.ctx, id, st.ID)
		if err != nil || now[0].ExitCode != nil || now[0].End > part.next+kept.MinOutput || now[0].First > part.next {
			t.Fatalf("half was read, to %d: %+v %v", part.next, now, err)
		}
		if rest := s.join(t, id, st.ID, part.next, -1); rest.gaps != 0 || rest.first != part.next || rest.end.End != size || *rest.end.ExitCode != 0 {
			t.Errorf("from %d: %d missing, %+v", part.next, rest.gaps, rest.end)
		}
	})
	s.sub("a reader that says nothing stops the command, and not for ever", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: zeros, OutputLimit: kept.MinOutput})
		a, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Output: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		first, err := a.Recv()
		if err != nil || first.Offset != 0 {
			t.Fatalf("%+v %v", first, err)
		}
		if all := s.join(t, id, st.ID, 0, -1); all.gaps != 0 || all.end.End != size {
			t.Errorf("another reader: %d missing, %+v", all.gaps, all.end)
		}
		slow := read(t, a, int64(len(first.Data)), -1) // It was overtaken by the other, and is told.
		if int64(slow.out.Len())+slow.gaps+int64(len(first.Data)) != size || slow.gaps == 0 {
			t.Errorf("%d bytes came and %d are missing", slow.out.Len(), slow.gaps)
		}
	})
	s.sub("the oldest is dropped, and who reads is told", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: zeros, OutputLimit: kept.MinOutput, DropOldest: true})
		s.waitKept(t, id, st.ID)
		all := s.join(t, id, st.ID, 0, -1)
		if all.gaps == 0 || all.first != all.gaps || int64(all.out.Len())+all.gaps != size || all.out.Len() > kept.MinOutput || all.end.First != all.first {
			t.Errorf("%d bytes from %d, %d missing, %+v", all.out.Len(), all.first, all.gaps, all.end)
		}
	})
	s.sub("limits", func(t *testing.T) {
		for _, limit := range []int64{-1, kept.MinOutput - 1, kept.MaxOutput + 1} {
			_, err := s.b.CreateExec(s.ctx, id, backend.KeptExec{ID: "limit", Exec: zeros, OutputLimit: limit})
			wantFault(t, err, fault.Invalid, "")
		}
		var names []string
		for n := 0; ; n++ {
			name := fmt.Sprintf("many-%d", n)
			_, err := s.b.CreateExec(s.ctx, id, backend.KeptExec{ID: name, Exec: backend.Exec{Argv: []string{"sleep", "infinity"}}, OutputLimit: kept.MaxOutput})
			if n == kept.MaxOutputs/kept.MaxOutput {
				wantFault(t, err, fault.Exhausted, fault.ReasonLimitExceeded)
				break
			}
			if err != nil {
				t.Fatalf("command %d: %v", n, err)
			}
			names = append(names, name)
		}
		for _, name := range names {
			if err := s.b.DeleteExec(s.ctx, id, name); err != nil {
				t.Errorf("delete %s: %v", name, err)
			}
		}
		s.keep(t, id, backend.KeptExec{Exec: zeros, OutputLimit: kept.MaxOutput})
	})
}

// waitKept returns how a command ended.
func (s *suite) waitKept(t *testing.T, sandbox, id string) *backend.ExecState {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	a, err := s.b.AttachExec(ctx, sandbox, id, backend.Attach{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	return read(t, a, 0, -1).end
}

func (s *suite) keptInput(id string) {
	s.sub("input goes on where it was cut off", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"cat"}, Stdin: true}})
		var want strings.Builder
		got := ""
		for n := range 3 {
			a, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Output: true, Offset: int64(len(got)), Follow: true, Stdin: true})
			if err != nil {
				t.Fatal(err)
			}
			if at := a.State().StdinOffset; at != int64(want.Len()) {
				t.Fatalf("writer %d begins at %d, %d bytes were sent", n, at, want.Len())
			}
			line := strings.Repeat(fmt.Sprintf("%d", n), 100_000) + "\n"
			want.WriteString(line)
			go func() { _ = a.Send([]byte(line)) }()
			got += read(t, a, int64(len(got)), int64(want.Len()-len(got))).out.String()
			if n == 2 {
				if err := a.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if end := read(t, a, int64(len(got)), -1); *end.end.ExitCode != 0 || !end.end.StdinClosed {
					t.Errorf("%+v", end.end)
				}
			}
			_ = a.Close()
		}
		if got != want.String() {
			t.Errorf("%d bytes came back of %d", len(got), want.Len())
		}
	})
	s.sub("input that is not read waits", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"sleep", "infinity"}, Stdin: true}})
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		a, err := s.b.AttachExec(ctx, id, st.ID, backend.Attach{Stdin: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		sent := make(chan error, 1)
		go func() { sent <- a.Send(make([]byte, 4<<20)) }()
		select {
		case err := <-sent:
			t.Errorf("4 MiB went to a command that reads nothing: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		cancel()
		if err := <-sent; err == nil {
			t.Error("input that was not read was sent")
		}
		if err := s.b.DeleteExec(s.ctx, id, st.ID); err != nil {
			t.Error(err)
		}
	})
	s.sub("the last writer has the input", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"cat"}, Stdin: true}})
		first, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Stdin: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = first.Close() }()
		second, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Stdin: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = second.Close() }()
		_ = first.Send([]byte("no"))
		_, err = first.Recv()
		wantFault(t, err, fault.Conflict, fault.ReasonExecInputTaken)
		if err := errors.Join(second.Send([]byte("yes")), second.CloseSend()); err != nil {
			t.Fatal(err)
		}
		if all := s.join(t, id, st.ID, 0, -1); all.out.String() != "yes" {
			t.Errorf("%q", all.out.String())
		}
	})
	s.sub("without input there is no writer", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"cat"}}})
		_, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Stdin: true})
		wantFault(t, err, fault.Invalid, "")
		if all := s.join(t, id, st.ID, 0, -1); all.end.End != 0 || *all.end.ExitCode != 0 {
			t.Errorf("%+v", all.end)
		}
	})
}

func (s *suite) keptEnds(id string) {
	sleep := backend.Exec{Argv: []string{"sleep", "infinity"}}
	s.sub("signals", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: sleep})
		if _, err := s.b.SignalExec(s.ctx, id, st.ID, 15); err != nil {
			t.Fatal(err)
		}
		if end := s.waitKept(t, id, st.ID); *end.ExitCode != 128+15 || end.Signal != 15 || end.TimedOut {
			t.Errorf("%+v", end)
		}
		_, err := s.b.SignalExec(s.ctx, id, st.ID, 15)
		wantFault(t, err, fault.Precondition, fault.ReasonExecEnded)
	})
	s.sub("a timeout kills, and says so", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: sleep, Timeout: 50 * time.Millisecond})
		if end := s.waitKept(t, id, st.ID); *end.ExitCode != 128+9 || !end.TimedOut {
			t.Errorf("%+v", end)
		}
	})
	s.sub("a delete kills, and tells who is attached", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: sleep})
		a, err := s.b.AttachExec(s.ctx, id, st.ID, backend.Attach{Output: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		if err := s.b.DeleteExec(s.ctx, id, st.ID); err != nil {
			t.Fatal(err)
		}
		_, err = a.Recv()
		wantFault(t, err, fault.NotFound, fault.ReasonExecNotFound)
		wantFault(t, s.b.DeleteExec(s.ctx, id, st.ID), fault.NotFound, fault.ReasonExecNotFound)
	})
	s.sub("a terminal", func(t *testing.T) {
		st := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"sh", "-c", "stty size; echo err >&2"}, TTY: true, Width: 101, Height: 37}})
		if all := s.join(t, id, st.ID, 0, -1); !strings.Contains(all.out.String(), "37 101") || all.err.Len() > 0 || !all.end.TTY {
			t.Errorf("%q %q %+v", all.out.String(), all.err.String(), all.end)
		}
		plain := s.keep(t, id, backend.KeptExec{Exec: sleep})
		_, err := s.b.ResizeExec(s.ctx, id, plain.ID, 80, 24)
		wantFault(t, err, fault.Invalid, "")
		wide := s.keep(t, id, backend.KeptExec{Exec: backend.Exec{Argv: []string{"sleep", "infinity"}, TTY: true, Width: 80, Height: 24}})
		if _, err := s.b.ResizeExec(s.ctx, id, wide.ID, 120, 40); err != nil {
			t.Error(err)
		}
	})
	s.sub("an end of the sandbox is an end of its commands", func(t *testing.T) {
		brief := s.idle(t)
		st := s.keep(t, brief, backend.KeptExec{Exec: sleep})
		a, err := s.b.AttachExec(s.ctx, brief, st.ID, backend.Attach{Output: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		if err := s.b.Stop(s.ctx, brief, 0, "TEST"); err != nil {
			t.Fatal(err)
		}
		f, err := a.Recv() // Seen by the init as it ended everything, or not at all.
		if err == nil && (f.Kind != backend.AttachExit || f.End.Signal == 0) {
			t.Errorf("%+v", f)
		}
		s.ended(t, brief)
		_, err = s.b.AttachExec(s.ctx, brief, st.ID, backend.Attach{Output: true})
		wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	})
}
