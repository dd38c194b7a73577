package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// logReader opens output and closes it with the test.
func (b *testBackend) logReader(id string, q backend.LogQuery) backend.LogReader {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	r, err := b.Logs(ctx, id, q)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = r.Close() })
	return r
}

// tally is what a reader gave.
type tally struct {
	bytes, lost, end int64
	last             string
	err              error
}

// until reads until enough says so, or to the end.
func until(t testing.TB, r backend.LogReader, enough func(*tally) bool) *tally {
	t.Helper()
	got := &tally{}
	for !enough(got) {
		f, err := r.Recv()
		if err != nil {
			got.err = err
			return got
		}
		if got.end != 0 && f.Offset != got.end {
			t.Fatalf("a frame at %d follows one that ends at %d", f.Offset, got.end)
		}
		got.bytes, got.lost, got.end = got.bytes+int64(len(f.Data)), got.lost+f.Lost, f.End()
		got.last = string(f.Data[max(0, len(f.Data)-64):])
	}
	return got
}

func theEnd(*tally) bool { return false }

// residentKiB is the memory of a process that it does not share with its file.
func residentKiB(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// TestLogOfAGigabyte: a reader that keeps up gets every byte or is told what it missed, one that does not read is told what was
// discarded, the disk has the last of it, and the shim's memory does not grow.
func TestLogOfAGigabyte(t *testing.T) {
	const size, limit = int64(1) << 30, int64(4) << 20
	b := open(t, withRuntime("crun"), func(c *Config) { c.OutputLimit = limit })
	id := b.launch(work("sh", "-c", fmt.Sprintf("head -c %d /dev/zero; echo the end", size-int64(len("the end\n")))))
	slow := b.logReader(id, backend.LogQuery{Follow: true})
	first := until(t, slow, func(got *tally) bool { return got.bytes > 0 })
	record, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil || record == nil {
		t.Fatal(record, err)
	}
	most, next := 0, int64(0)
	fast := until(t, b.logReader(id, backend.LogQuery{Follow: true}), func(got *tally) bool {
		if got.end > next && got.end < size*9/10 {
			most, next = max(most, residentKiB(t, record.ShimPID)), got.end+size/20
		}
		return false
	})
	if !errors.Is(fast.err, io.EOF) || fast.bytes+fast.lost != size || !strings.HasSuffix(fast.last, "the end\n") {
		t.Errorf("the reader that keeps up: %+v", fast)
	}
	const bound = 24 << 10
	if most == 0 || most > bound {
		t.Errorf("the shim had %d KiB, want at most %d", most, bound)
	}
	rest := until(t, slow, theEnd)
	if !errors.Is(rest.err, io.EOF) || first.bytes+first.lost+rest.bytes+rest.lost != size || rest.lost < size/2 || !strings.HasSuffix(rest.last, "the end\n") {
		t.Errorf("the reader that waited: %+v after %+v", rest, first)
	}
	b.ended(id)
	if onDisk := sizeOf(shim.OutputDir(b.place.shimState(id))); onDisk > limit || onDisk < limit/2 {
		t.Errorf("%d bytes on disk, the limit is %d", onDisk, limit)
	}
	late := until(t, b.logReader(id, backend.LogQuery{}), theEnd)
	if late.bytes+late.lost != size || late.bytes > limit || !strings.HasSuffix(late.last, "the end\n") {
		t.Errorf("after the end: %+v", late)
	}
	t.Logf("read in time %d, told as lost %d; shim %d KiB", fast.bytes, fast.lost, most)
}

// TestLogsAcrossARestart: output goes on without a server, and a reader of the next one continues where it was.
func TestLogsAcrossARestart(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id := b.launch(work("sh", "-c", "echo before; while ! [ -e /tmp/go ]; do sleep 0.02; done; echo after; exit 5"))
		r := b.logReader(id, backend.LogQuery{Follow: true})
		got := until(t, r, func(got *tally) bool { return got.end == int64(len("before\n")) })
		session := r.Session()
		b.reopen()
		if err := b.WriteFile(t.Context(), id, "/tmp/go", 0o644, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
		rest := until(t, b.logReader(id, backend.LogQuery{Follow: true, Session: session, Offset: got.end}), theEnd)
		if !errors.Is(rest.err, io.EOF) || rest.last != "after\n" || rest.lost != 0 {
			t.Errorf("%+v", rest)
		}
		b.ended(id)
		for _, when := range []string{"ended", "deleted", "deleted and restarted"} {
			all := until(t, b.logReader(id, backend.LogQuery{Session: session, Follow: true}), theEnd)
			if !errors.Is(all.err, io.EOF) || all.bytes != int64(len("before\nafter\n")) {
				t.Errorf("%s: %+v", when, all)
			}
			if when == "deleted" {
				b.reopen()
			} else if err := b.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLogsOfALostSandbox: what was printed is there, and that nobody saw the end is told, to followers and later readers.
func TestLogsOfALostSandbox(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sh", "-c", "echo seen; sleep infinity"))
	r := b.logReader(id, backend.LogQuery{Follow: true})
	until(t, r, func(got *tally) bool { return got.end == int64(len("seen\n")) })
	record, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(record.ShimPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if rest := until(t, r, theEnd); !fault.HasReason(rest.err, fault.ReasonStreamTruncated) {
		t.Errorf("who follows: %v", rest.err)
	}
	if o := b.ended(id); o.Reason != core.EndLost {
		t.Fatalf("%+v", o)
	}
	for range 2 {
		all := until(t, b.logReader(id, backend.LogQuery{}), theEnd)
		if !fault.HasReason(all.err, fault.ReasonStreamTruncated) || all.last != "seen\n" {
			t.Errorf("later: %+v", all)
		}
		if err := b.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOutputRetention: output of an ended sandbox goes when its time is over, and not before, also under a later server.
func TestOutputRetention(t *testing.T) {
	start := time.Now()
	var ahead atomic.Int64 // The backend looks at its clock by itself, too.
	b := open(t, withRuntime("crun"), func(c *Config) {
		c.OutputRetention = time.Hour
		c.Now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	})
	var ids []string
	for _, command := range []string{"echo kept", "true"} {
		id := b.launch(work("sh", "-c", command))
		b.ended(id)
		if err := b.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	ahead.Add(int64(59 * time.Minute))
	b.expireOutputs()
	b.reopen()
	for i, want := range []int64{5, 0} {
		if all := until(t, b.logReader(ids[i], backend.LogQuery{}), theEnd); all.bytes != want || !errors.Is(all.err, io.EOF) {
			t.Errorf("%+v", all)
		}
	}
	ahead.Add(int64(2 * time.Minute))
	b.expireOutputs()
	for _, id := range ids {
		if _, err := b.Logs(t.Context(), id, backend.LogQuery{}); !fault.Is(err, fault.NotFound) {
			t.Errorf("after the retention: %v", err)
		}
	}
	if left, err := os.ReadDir(b.place.outputs()); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestLogsWhileASandboxIsDeleted: at each step of a deletion the output is where it was, or where it is kept, and never nowhere.
func TestLogsWhileASandboxIsDeleted(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("echo", "kept"))
	b.ended(id)
	s, err := b.get(id)
	if err != nil {
		t.Fatal(err)
	}
	all := func(when string) {
		t.Helper()
		for _, q := range []backend.LogQuery{{}, {Tail: proto.Int64(1)}} {
			if got := until(t, b.logReader(id, q), theEnd); got.bytes != 5 || got.lost != 0 || !errors.Is(got.err, io.EOF) {
				t.Errorf("%s: %+v", when, got)
			}
		}
	}
	all("before")
	// It has been moved, and nobody knows yet; who reads waits for that.
	from := shim.OutputDir(b.place.shimState(s.slot))
	if err := os.Rename(from, b.place.output(id)); err != nil {
		t.Fatal(err)
	}
	kept := make(chan error, 1)
	go func() {
		time.Sleep(2 * reopenPause)
		kept <- b.keepOutput(s)
	}()
	all("while it is moved")
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	all("when it is kept")
	if err := os.RemoveAll(b.place.shimState(s.slot)); err != nil {
		t.Fatal(err)
	}
	all("when the records are gone")
}

// TestKeptOutputIsBounded: the oldest goes first.
func TestKeptOutputIsBounded(t *testing.T) {
	k := &keptOutputs{byID: map[string]keptOutput{}}
	at := time.Unix(1000, 0)
	for i := range MaxKeptOutputs + 10 {
		k.add(strconv.Itoa(i), keptOutput{EndedAt: at.Add(time.Duration(i))}, 1)
	}
	gone := k.takeExpired(at)
	if len(gone) != 10 || gone[0] != "0" || gone[9] != "9" || k.bytes != MaxKeptOutputs {
		t.Errorf("too many: %q go, %d bytes stay", gone, k.bytes)
	}
	k.add("large", keptOutput{EndedAt: at.Add(time.Hour)}, MaxKeptBytes)
	if gone := k.takeExpired(at); len(gone) != MaxKeptOutputs || k.bytes != MaxKeptBytes {
		t.Errorf("too large: %d go, %d bytes stay", len(gone), k.bytes)
	}
}
