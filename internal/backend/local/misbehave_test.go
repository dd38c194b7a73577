package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
)

// TestClosesItsOutput: a program that closes its output has not ended: it goes on, and its end comes when it ends, with its code.
func TestClosesItsOutput(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sh", "-c", "echo before; exec >&- 2>&-; while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 5"))
		r := b.logReader(id, backend.LogQuery{Follow: true})
		until(t, r, func(got *tally) bool { return got.end == int64(len("before\n")) })
		if got := b.shell(id, "echo out; exec >&- 2>&-; sleep 0.3; exit 7"); got != (ran{out: "out\n", code: 7}) {
			t.Errorf("a command: %+v", got)
		}
		if o := b.isRunning(id); o.ExitCode != nil {
			t.Errorf("%+v", o)
		}
		b.shell(id, "touch /tmp/go")
		if rest := until(t, r, theEnd); !errors.Is(rest.err, io.EOF) || rest.bytes+rest.lost != 0 {
			t.Errorf("its output went on: %+v", rest)
		}
		if o := b.ended(id); o.Failed || o.ExitCode == nil || *o.ExitCode != 5 {
			t.Errorf("%+v", o)
		}
	})
}

// daemon is a script that leaves a process behind, two forks away and in a session of its own, which has the output open and ignores what
// it is asked.
const daemon = `sh -c 'setsid sh -c "trap \"\" TERM HUP; echo \$\$ > /tmp/pid; while :; do sleep 0.05; done" &'; while ! [ -s /tmp/pid ]; do sleep 0.02; done; echo done; exit 3`

// TestDaemonises: what is left behind holds up no end. That of a command lives as long as its sandbox, that of the main process no longer
// than that.
func TestDaemonises(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sleep", "infinity"))
		b.isRunning(id)
		if got := b.shell(id, daemon); got != (ran{out: "done\n", code: 3}) {
			t.Errorf("a command: %+v", got)
		}
		if got := b.shell(id, "kill -0 $(cat /tmp/pid) && echo lives"); got.out != "lives\n" {
			t.Errorf("what it left: %+v", got)
		}
		if err := b.Stop(t.Context(), id, 50*time.Millisecond, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if o := b.ended(id); o.Failed || o.Reason != core.EndStopped {
			t.Errorf("%+v", o)
		}
		main := b.launch(work("sh", "-c", daemon))
		if o := b.ended(main); o.Failed || o.Reason != core.EndExited || o.ExitCode == nil || *o.ExitCode != 3 {
			t.Errorf("a main process: %+v", o)
		}
		if all := until(t, b.logReader(main, backend.LogQuery{Follow: true}), theEnd); !errors.Is(all.err, io.EOF) || all.last != "done\n" {
			t.Errorf("its output: %+v", all)
		}
		for _, id := range []string{id, main} { // The groups are empty, or they could not be removed.
			if err := b.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCommandIgnoresTERM: a command that will not go is killed when the grace of its sandbox is over, and nobody is told that it ended by
// itself.
func TestCommandIgnoresTERM(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sleep", "infinity"))
		b.isRunning(id)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		p, err := b.Exec(ctx, id, backend.Exec{Argv: []string{"sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.01; done`}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if f, err := p.Recv(); err != nil || string(f.Data) != "ready\n" {
			t.Fatalf("%q, %v", f.Data, err)
		}
		if err := b.Stop(t.Context(), id, 50*time.Millisecond, core.EndLeaseExpired); err != nil {
			t.Fatal(err)
		}
		for {
			f, err := p.Recv()
			if err != nil {
				if errors.Is(err, io.EOF) || ctx.Err() != nil {
					t.Errorf("no end was told: %v", err)
				}
				break
			}
			if f.Kind == backend.FrameExit {
				if f.ExitCode != 128+9 || f.Signal != 9 {
					t.Errorf("%+v", f)
				}
				break
			}
		}
		if o := b.ended(id); o.Failed || o.Reason != core.EndLeaseExpired {
			t.Errorf("%+v", o)
		}
	})
}

// TestCommandPrintsAGigabyte: all of it comes, each byte in its place, and neither the shim's memory nor that of the server grows with it.
func TestCommandPrintsAGigabyte(t *testing.T) {
	const size, piece = 1 << 30, 1 << 20
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sleep", "infinity"))
	b.isRunning(id)
	record, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil || record == nil {
		t.Fatal(record, err)
	}
	p, err := b.Exec(t.Context(), id, backend.Exec{Argv: []string{"sh", "-c", fmt.Sprintf("yes 0123456789abcde | head -c %d", size)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want := sha256.New()
	lines := []byte(strings.Repeat("0123456789abcde\n", piece/16))
	for range size / piece {
		want.Write(lines)
	}
	got, n, next, exits := sha256.New(), 0, 0, 0
	most, kib := uint64(0), 0
	for {
		f, err := p.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == backend.FrameExit {
			if exits++; f.ExitCode != 0 {
				t.Errorf("%+v", f)
			}
			continue
		}
		got.Write(f.Data)
		if n += len(f.Data); n > next {
			next += size / 20
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most, kib = max(most, m.HeapInuse), max(kib, residentKiB(t, record.ShimPID))
		}
	}
	if n != size || exits != 1 || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("%d bytes of %d, %d ends, the right ones: %t", n, size, exits, string(got.Sum(nil)) == string(want.Sum(nil)))
	}
	if most > 96<<20 || kib == 0 || kib > 24<<10 {
		t.Errorf("the server had %d MiB, the shim %d KiB", most>>20, kib)
	}
	t.Logf("server %d MiB, shim %d KiB", most>>20, kib)
}
