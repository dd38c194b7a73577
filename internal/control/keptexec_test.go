package control_test

import (
	"io"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
)

// keep starts a command in a sandbox of its own.
func (w *world) keep(stdin bool, argv ...string) (sandbox string) {
	w.Helper()
	id := w.running(nil).ID
	_, err := w.svc.CreateExec(w.ctx(), w.user, id, backend.KeptExec{ID: "x", Exec: backend.Exec{Argv: argv, Stdin: stdin}})
	w.must(err)
	w.Cleanup(func() { w.must(w.svc.DeleteExec(w.ctx(), w.user, id, "x")) })
	return id
}

// TestExecReadHasWhatIsThere: a read has what is held, and the end, without waiting, and however short it waits.
func TestExecReadHasWhatIsThere(t *testing.T) {
	w := newWorld(t)
	id := w.keep(false, "echo", "hello")
	for {
		st, err := w.svc.GetExec(w.ctx(), w.user, id, "x")
		w.must(err)
		if st.Done {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for n := range 20 { // Fewer than may be attached at once.
		wait := time.Duration(n % 2) // none, or a nanosecond
		read, err := w.svc.ReadExec(w.ctx(), w.user, id, "x", 0, 0, wait)
		w.must(err)
		if len(read.Frames) == 0 || string(read.Frames[0].Data) != "hello\n" || read.Next != 6 || !read.State.Done {
			t.Fatalf("read %d, waiting %v: %+v", n, wait, read)
		}
	}
}

// TestExecReadWaits: who waits gets nothing when the time is over, and no error.
func TestExecReadWaits(t *testing.T) {
	w := newWorld(t)
	id := w.keep(false, "sleep", "infinity")
	read, err := w.svc.ReadExec(w.ctx(), w.user, id, "x", 0, 0, 10*time.Millisecond)
	if err != nil || len(read.Frames) > 0 || read.Next != 0 {
		t.Errorf("%+v %v", read, err)
	}
}

// TestExecInputUnread: a command that never reads does not hold who writes for ever; what came stays.
func TestExecInputUnread(t *testing.T) {
	w := newWorld(t)
	id := w.keep(true, "sleep", "infinity")
	err := control.WriteExecStdinWithin(w.ctx(), w.svc, w.user, id, "x", []byte("unread"), 20*time.Millisecond)
	wantFault(t, err, fault.Deadline, fault.ReasonExecInputUnread, "0 bytes", "of 6")
	st, err := w.svc.GetExec(w.ctx(), w.user, id, "x")
	if err != nil || st.StdinOffset != 6 {
		t.Errorf("%+v %v", st, err)
	}
}

// drip is a command that prints byte by byte, to as many streams by turns.
type drip struct {
	backend.Attachment
	streams, printed int
}

func (d *drip) Recv() (backend.AttachFrame, error) {
	if d.printed == 100_000 {
		return backend.AttachFrame{}, io.EOF
	}
	f := backend.AttachFrame{Kind: backend.AttachStdout + backend.AttachKind(d.printed%d.streams), Data: []byte("x"), Offset: int64(d.printed), At: time.Unix(1, 0)}
	d.printed++
	return f, nil
}

// TestExecReadOfSmallPieces: what a read has in memory is bounded by its bytes, not multiplied by how they were printed.
func TestExecReadOfSmallPieces(t *testing.T) {
	one, err := control.FillExecRead(&drip{streams: 1}, control.MaxExecRead)
	if err != nil || len(one.Frames) != 1 || len(one.Frames[0].Data) != 100_000 || one.Next != 100_000 {
		t.Errorf("%d pieces up to %d, %v", len(one.Frames), one.Next, err)
	}
	two, err := control.FillExecRead(&drip{streams: 2}, control.MaxExecRead)
	if err != nil || len(two.Frames) != control.MaxExecPieces || two.Next != control.MaxExecPieces {
		t.Errorf("%d pieces up to %d, %v", len(two.Frames), two.Next, err)
	}
	if few, err := control.FillExecRead(&drip{streams: 1}, 7); err != nil || few.Next != 7 || len(few.Frames[0].Data) != 7 {
		t.Errorf("%+v, %v", few, err)
	}
}
