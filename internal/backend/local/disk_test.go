package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// smallDisk mounts a file system of this size.
func smallDisk(t *testing.T, bytes string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space and returns how to give it back.
func fill(t *testing.T, dir string) func() {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	f.Close()
	return func() { os.Remove(name) }
}

// TestFullDisk: a launch on a full disk is a clear error that changes nothing; what runs goes on and can be stopped.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "16m")
	b := open(t, withRuntime("crun"), func(c *Config) { c.Dir = filepath.Join(dir, "state") })
	running := b.launch(work("sleep", "infinity"))
	b.isRunning(running)
	empty := fill(t, dir)
	w := work("true")
	err := b.Create(t.Context(), w)
	// Not Unavailable, which would leave open whether it was accepted, and be asked again.
	if f := fault.From(err); !fault.Is(err, fault.Exhausted) || !fault.HasReason(err, fault.ReasonStoreUnavailable) || !strings.Contains(f.Message, "is full") || strings.Contains(f.Message, dir) {
		t.Errorf("%v", err)
	}
	if exists(b.place.sandbox(w.SandboxID)) {
		t.Error("something was kept of a launch that was refused")
	}
	if r := b.exec(running, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
	if err := b.Stop(t.Context(), running, 0, core.EndLifetimeExceeded); err != nil {
		t.Errorf("stop: %v", err)
	}
	if o := b.ended(running); o.Reason != core.EndLifetimeExceeded || o.Failed {
		t.Errorf("%+v", o)
	}
	empty()
	if o := b.ended(b.launch(w)); o.ExitCode == nil || *o.ExitCode != 0 {
		t.Errorf("%+v", o)
	}
}

// TestFullDiskOutput: what a main process prints while the disk is full is lost, and that is told to the byte, to who follows it and to who reads
// it later; what it prints before and after is there. It runs on, and its end is seen.
func TestFullDiskOutput(t *testing.T) {
	const lost = 3 << 20
	for name, printed := range map[string]struct{ before, after string }{
		"the middle": {"before\n", "after\n"}, "the end": {"before\n", ""}, "all": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, "16m")
			b := open(t, withRuntime("crun"), func(c *Config) { c.Dir = filepath.Join(dir, "state"); c.OutputLimit = 4 << 20 })
			step := func(name string) string { return "while ! [ -e /tmp/" + name + " ]; do sleep 0.02; done; " }
			script := "printf '%s' '" + printed.before + "'; " + step("full") + "head -c 3145728 /dev/zero; touch /tmp/printed; " + step("empty") + "printf '%s' '" + printed.after + "'; exit 6"
			id := b.launch(work("sh", "-c", script))
			b.isRunning(id)
			follower := b.logReader(id, backend.LogQuery{Follow: true})
			seen := until(t, follower, func(got *tally) bool { return got.end == int64(len(printed.before)) })
			empty := fill(t, dir)
			b.shell(id, "touch /tmp/full; while ! [ -e /tmp/printed ]; do sleep 0.02; done")
			if printed.after != "" {
				empty()
			}
			b.shell(id, "touch /tmp/empty")
			if o := b.ended(id); o.Failed || o.ExitCode == nil || *o.ExitCode != 6 {
				t.Errorf("%+v", o)
			}
			all := int64(len(printed.before) + lost + len(printed.after))
			rest := until(t, follower, theEnd)
			later := until(t, b.logReader(id, backend.LogQuery{}), theEnd)
			for who, got := range map[string]*tally{"who follows": rest, "who comes later": later} {
				before := int64(0)
				if got == rest {
					before = seen.bytes
				}
				if !errors.Is(got.err, io.EOF) || before+got.bytes+got.lost != all || got.lost < lost/2 || !strings.HasSuffix(got.last, printed.after) {
					t.Errorf("%s: %d bytes, %d told as lost of %d, last %q, %v", who, before+got.bytes, got.lost, all, got.last[max(0, len(got.last)-10):], got.err)
				}
			}
			empty()
		})
	}
}

// TestFullDiskImage: a layer that does not fit ends the launch, and nothing of it stays.
func TestFullDiskImage(t *testing.T) {
	dir := smallDisk(t, "8m")
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("large", strings.Repeat("x", 12<<20)))}, Compress: true, Config: v1.Config{Cmd: []string{"/x"}}})
	b := open(t, withRuntime("crun"), withImage("large", l), func(c *Config) { c.Dir = filepath.Join(dir, "state") })
	o := b.ended(b.launch(imageWork("large")))
	if !o.Failed || o.Reason != core.EndImageFailed || !strings.Contains(o.Message, "no space left") {
		t.Errorf("%+v", o)
	}
	if left, _ := os.ReadDir(filepath.Join(b.place.images(), "sha256")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestUnusableDir: a state directory that cannot be written is an error of New, which names it.
func TestUnusableDir(t *testing.T) {
	dir := smallDisk(t, "1m")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "new"), file, "relative", ""} {
		b, err := New(t.Context(), Config{Dir: d, Shim: shimPath})
		if err == nil {
			t.Errorf("%q: no error", d)
			_ = b.Close()
		} else if d != "" && !strings.Contains(err.Error(), d) {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// TestEventsAcrossRestarts: events that are told again have the same names and times, so that they can be recognised.
func TestEventsAcrossRestarts(t *testing.T) {
	b := open(t, withRuntime("crun"))
	running, ended := b.launch(work("sleep", "infinity")), b.launch(work("true"))
	b.isRunning(running)
	b.ended(ended)
	events := func() map[string][]core.Event {
		all := map[string][]core.Event{}
		for id := range b.snapshot() {
			b.await(id, "it settled", func(o *backend.Observation) bool {
				return o.Phase == backend.PhaseRunning && id == running || o.Phase == backend.PhaseEnded
			})
			s, _ := b.get(id)
			s.mu.Lock()
			all[id] = append([]core.Event(nil), s.told...)
			s.mu.Unlock()
		}
		return all
	}
	before := events()
	b.reopen()
	after := events()
	for id, want := range before {
		if len(want) != len(after[id]) {
			t.Errorf("%s: %v, before the restart %v", id, after[id], want)
			continue
		}
		for i, e := range want {
			if got := after[id][i]; got.Name != e.Name || !got.At.Equal(e.At) {
				t.Errorf("%s: %v, before the restart %v", id, got, e)
			}
		}
	}
}
