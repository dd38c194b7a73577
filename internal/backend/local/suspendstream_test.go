package local

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// following collects what a reader of output gives, in the background.
type following struct {
	r    backend.LogReader
	cut  context.CancelFunc
	text chan string
	err  chan error
}

func (b *testBackend) follow(id string, q backend.LogQuery) *following {
	b.t.Helper()
	q.Follow = true
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	r, err := b.Logs(ctx, id, q)
	if err != nil {
		b.t.Fatal(err)
	}
	f := &following{r, cancel, make(chan string, 1024), make(chan error, 1)}
	go func() {
		defer r.Close()
		for {
			frame, err := r.Recv()
			if err != nil {
				f.err <- err
				close(f.text)
				return
			}
			f.text <- string(frame.Data)
		}
	}()
	return f
}

// reads waits for a text to have come since the last call.
func (f *following) reads(t *testing.T, want string) {
	t.Helper()
	got := ""
	for len(got) < len(want) {
		part, ok := <-f.text
		if !ok {
			t.Fatalf("read %q, want %q: %v", got, want, <-f.err)
		}
		got += part
	}
	if got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestSuspendInTheMiddle: a command whose output is read, and a reader that follows the main process, while their sandbox is saved, a
// server goes and another comes. The command is told to be over, by an error and never by a code. The reader waits through the saving; its
// stream, cut when its server ends, goes on where it was at the next one: nothing is missing, nothing comes twice.
func TestSuspendInTheMiddle(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	w := work("python3", "-c", counter)
	w.Spec.RuntimeClass = proto.String("runsc")
	id := b.launch(w)
	b.isRunning(id)
	logs := b.follow(id, backend.LogQuery{})
	logs.reads(t, "begun\n")
	p, err := b.Exec(t.Context(), id, backend.Exec{Argv: []string{"sh", "-c", "n=0; while true; do n=$((n+1)); echo line $n; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var heard strings.Builder
	over := make(chan error, 1)
	flows := make(chan struct{})
	go func() {
		for {
			f, err := p.Recv()
			if err != nil || f.Kind == backend.FrameExit {
				if err == nil {
					err = errors.New("it ended with a code")
				}
				over <- err
				return
			}
			if heard.Len() == 0 {
				close(flows)
			}
			heard.Write(f.Data)
		}
	}()
	<-flows
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.isPaused(id)
	err = <-over
	if f := fault.From(err); errors.Is(err, io.EOF) || f.Code == fault.Internal || f.Reason == "" {
		t.Errorf("the command: %v", err)
	}
	for i, line := range slices.Collect(strings.Lines(heard.String())) { // The last may be cut.
		if want := "line " + strconv.Itoa(i+1) + "\n"; line != want && !strings.HasPrefix(want, line) {
			t.Fatalf("line %d of the command is %q", i+1, line)
		}
	}
	select {
	case err := <-logs.err:
		t.Errorf("a reader does not wait: %v", err)
	default:
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.say(id, "one")
	logs.reads(t, "said one\n")
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	end := int64(len("begun\nsaid one\n"))
	logs.cut() // As by a server that ends.
	if err := <-logs.err; errors.Is(err, io.EOF) {
		t.Error("a stream whose end nobody has seen ended as if it were over")
	}
	b.reopen()
	b.isPaused(id)
	// On disk nothing is printed, and what was can be read; who follows waits for more.
	again := b.follow(id, backend.LogQuery{Offset: end, Session: logs.r.Session()})
	if got := b.output(id); got != "begun\nsaid one\n" {
		t.Errorf("on disk: %q", got)
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.say(id, "two")
	again.reads(t, "said two\n")
	b.shell(id, "printf 0 > /tmp/end.new; mv /tmp/end.new /tmp/end")
	again.reads(t, "ending\n")
	if err := <-again.err; !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	b.ended(id)
	if got := b.output(id); got != "begun\nsaid one\nsaid two\nending\n" {
		t.Errorf("all of it: %q", got)
	}
}

// say lets a counter print something.
func (b *testBackend) say(id, text string) {
	b.t.Helper()
	b.shell(id, "printf "+text+" > /tmp/say.new; mv /tmp/say.new /tmp/say; while test -e /tmp/say; do sleep 0.01; done")
}
