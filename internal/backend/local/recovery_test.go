package local

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// TestNeverStarted: what was accepted and never handed over runs after a restart, with everything that it was given.
func TestNeverStarted(t *testing.T) {
	b := open(t, withRuntime("crun"))
	w := work("sh", "-c", `exit $(cat /data/code)`)
	w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/data/code", Content: []byte("23")}}
	writeWork(t, b, w, 5)
	b.reopen()
	if o := b.ended(w.SandboxID); o.ExitCode == nil || *o.ExitCode != 23 || o.Failed {
		t.Errorf("%+v", o)
	}
	s, _ := b.get(w.SandboxID)
	if s.ids != 5 || s.work.Digest != w.Digest || s.work.OrgID != w.OrgID {
		t.Errorf("%+v", s.work)
	}
}

// writeWork leaves the records of a sandbox that was accepted, as a server does that dies right then.
func writeWork(t *testing.T, b *testBackend, w *backend.Work, ids int) {
	t.Helper()
	r, err := newWorkRecord(w, ids, time.Now(), b.Backend.cfg.BootID)
	if err == nil {
		err = os.Mkdir(b.place.sandbox(w.SandboxID), 0o700)
	}
	if err == nil {
		err = writeContents(b.place.mounted(w.SandboxID), w.Launch.GetMountedFiles())
	}
	if err == nil {
		err = writeRecord(b.place.sandbox(w.SandboxID), workName, r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStopBeforeStart: a stop that was written down before a sandbox ran is its end; it never runs.
func TestStopBeforeStart(t *testing.T) {
	b := open(t, withRuntime("crun"))
	w := work("true")
	writeWork(t, b, w, 5)
	if err := writeRecord(b.place.sandbox(w.SandboxID), stopName, stopRecord{Version: recordVersion, Why: core.EndDeleted, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if o := b.ended(w.SandboxID); o.ExitCode != nil || o.Failed || o.Reason != core.EndDeleted || !o.StartedAt.IsZero() {
		t.Errorf("%+v", o)
	}
}

// TestStopWhileCreating: a stop right after Create ends the sandbox with its reason, whether it ran or not.
func TestStopWhileCreating(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		for range 8 {
			w := work("sleep", "infinity")
			if err := b.Create(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			if err := b.Stop(t.Context(), w.SandboxID, 0, core.EndStopped); err != nil {
				t.Fatal(err)
			}
			if o := b.ended(w.SandboxID); o.Failed || o.Reason != core.EndStopped {
				t.Errorf("%+v", o)
			}
		}
	})
}

// TestLost: a shim that was killed saw no end. There is no code, and nothing of the sandbox is left running.
func TestLost(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		for _, restart := range []bool{false, true} {
			b := open(t, withRuntime(runtime))
			id := b.launch(work("sleep", "infinity"))
			b.isRunning(id)
			r, err := shim.ReadRecord(b.place.shimState(id))
			if err != nil {
				t.Fatal(err)
			}
			if restart {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Kill(r.ShimPID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if restart {
				b.Backend = b.start()
			}
			o := b.ended(id)
			if !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil || !o.StartedAt.Equal(r.StartedAt) {
				t.Errorf("restart %v: %+v", restart, o)
			}
			if _, err := b.Exec(t.Context(), id, backend.Exec{Argv: []string{"true"}}); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
				t.Errorf("exec: %v", err)
			}
			b.reopen()
			if again := b.ended(id); again.Reason != core.EndLost || !again.At.Equal(o.At) || again.ExitCode != nil {
				t.Errorf("told differently after a restart: %+v", again)
			}
		}
	})
}

// TestOtherBoot: what a shim wrote is not flushed, so that after a restart of the machine nothing is started that may have run,
// whatever the power cut left of its records. An end that was recorded counts as ever.
func TestOtherBoot(t *testing.T) {
	b := open(t, withRuntime("crun"))
	tell := func(id string) string { return b.place.shimState(id) }
	begin := shim.Begin{Main: []string{"true"}}
	cut := map[string]struct {
		// warm says that it was a prepared sandbox.
		warm bool
		// records are what is left of the shim's.
		records map[string]string
	}{
		"nothing of the shim":             {},
		"a configuration without content": {records: map[string]string{"config.json": ""}},
		"a configuration of zeros":        {records: map[string]string{"config.json": "\x00\x00\x00\x00", "state.json": "\x00\x00"}},
		"a prepared one, nothing else":    {warm: true},
		"a prepared one that had not begun as far as one can see": {warm: true, records: map[string]string{
			"config.json": "", "state.json": `{"version":1,"phase":"prepared","boot":"` + b.Backend.cfg.BootID + `"}`,
		}},
	}
	ids := map[string]string{}
	free := b.ids.start + MaxSandboxes/2 // far from those that are given out in this test
	for name, c := range cut {
		w := work("true")
		free++
		writeWork(t, b, w, free%MaxSandboxes)
		if c.warm {
			rewriteWork(t, b, w.SandboxID, func(r *workRecord) { r.Begin = &begin })
		}
		for file, content := range c.records {
			if err := os.MkdirAll(tell(w.SandboxID), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tell(w.SandboxID), file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ids[name] = w.SandboxID
	}
	ended := b.launch(work("sh", "-c", "exit 5"))
	b.ended(ended)
	ran := b.launch(work("sleep", "infinity"))
	b.isRunning(ran)
	ids["one that ran"] = ran
	r, err := shim.ReadRecord(tell(ran))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// What a restart of the machine does to every process.
	if err := syscall.Kill(r.ShimPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.cfg.BootID = "another boot"
	b.Backend = b.start()
	for range 2 { // The second time they are told from records.
		for name, id := range ids {
			if o := b.ended(id); !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil || !strings.HasPrefix(o.Message, "the machine was restarted") {
				t.Errorf("%s: %+v", name, o)
			}
		}
		if o := b.ended(ended); o.Failed || o.ExitCode == nil || *o.ExitCode != 5 {
			t.Errorf("one whose end was recorded: %+v", o)
		}
		b.reopen()
	}
	// What is accepted now is of the new boot.
	if o := b.ended(b.launch(work("sh", "-c", "exit 6"))); o.ExitCode == nil || *o.ExitCode != 6 {
		t.Errorf("%+v", o)
	}
}

// rewriteWork changes the record of a sandbox that was accepted.
func rewriteWork(t *testing.T, b *testBackend, id string, change func(*workRecord)) {
	t.Helper()
	r := &workRecord{}
	ok, err := readRecord(b.place.sandbox(id), workName, r)
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	change(r)
	if err := writeRecord(b.place.sandbox(id), workName, r); err != nil {
		t.Fatal(err)
	}
}

// TestEndedMeanwhile: what ended while there was no server is told with its code, and its stop's reason.
func TestEndedMeanwhile(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sh", "-c", "while ! test -e /tmp/go; do sleep 0.01; done; exit 17"))
	started := b.isRunning(id).StartedAt
	// The file is made by a command that outlives its caller.
	b.shell(id, "(sleep 0.3; touch /tmp/go) >/dev/null 2>&1 </dev/null &")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := shim.Connect(t.Context(), b.place.shimState(id))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Backend = b.start()
	if o := b.ended(id); o.ExitCode == nil || *o.ExitCode != 17 || o.Failed || !o.StartedAt.Equal(started) {
		t.Errorf("%+v", o)
	}
}

// TestBrokenRecords: a sandbox whose records cannot be read is lost, not forgotten, and can be deleted.
func TestBrokenRecords(t *testing.T) {
	b := open(t, withRuntime("crun"))
	var ids []string
	for i, content := range []string{"\n", "{\n", `{"version":99,"sandbox_id":"x"}` + "\n", `{"version":1,"sandbox_id":"other"}` + "\n", strings.Repeat("x", 100) + "\n"} {
		id := "sbx-broken-" + strconv.Itoa(i)
		ids = append(ids, id)
		if err := os.Mkdir(b.place.sandbox(id), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.place.sandbox(id), workName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Two that claim the same ids: the second cannot have them.
	one, two := work("sleep", "infinity"), work("sleep", "infinity")
	writeWork(t, b, one, 7)
	writeWork(t, b, two, 7)
	b.reopen()
	for _, id := range ids {
		if o := b.ended(id); !o.Failed || o.Reason != core.EndLost || o.ExitCode != nil || o.Message == "" {
			t.Errorf("%s: %+v", id, o)
		}
	}
	lost := 0
	for _, w := range []*backend.Work{one, two} {
		o := b.await(w.SandboxID, "it is settled", func(o *backend.Observation) bool {
			return o.Phase == backend.PhaseRunning || o.Phase == backend.PhaseEnded
		})
		if o.Reason == core.EndLost {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d of two with the same ids were lost", lost)
	}
}

// TestNotAccepted: what a server that died in Create left is removed; the id can be used.
func TestNotAccepted(t *testing.T) {
	b := open(t, withRuntime("crun"))
	w := work("true")
	if err := os.MkdirAll(filepath.Join(b.place.sandbox(w.SandboxID), "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.place.sandbox(w.SandboxID), "."+workName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	// As after a power failure: the name is there, the content is not.
	torn := work("true")
	writeWork(t, b, torn, 9)
	if err := os.Truncate(filepath.Join(b.place.sandbox(torn.SandboxID), workName), 40); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	for _, w := range []*backend.Work{w, torn} {
		if _, err := b.get(w.SandboxID); !fault.HasReason(err, fault.ReasonSandboxNotFound) {
			t.Errorf("%v", err)
		}
		b.ended(b.launch(w))
	}
}

// TestSweep: things under our names that belong to no sandbox go at the next start.
func TestSweep(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work("sleep", "infinity"))
	b.isRunning(id)
	// As if the state directory had been emptied by hand under a running server: nothing owns the container any more.
	record, err := shim.ReadRecord(b.place.shimState(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(record.ShimPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.place.sandbox(id)); err != nil {
		t.Fatal(err)
	}
	b.Backend = b.start()
	if _, err := b.get(id); err == nil {
		t.Error("it is still known")
	}
	if lives(record.PID) {
		t.Error("process 1 of the orphan lives")
	}
	b.checkLeaks()
}

// TestOneServer: a state directory has one server at a time.
func TestOneServer(t *testing.T) {
	b := open(t, withRuntime("crun"))
	_, err := New(t.Context(), b.Backend.cfg)
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), b.place.dir) {
		t.Errorf("%v", err)
	}
}

// TestRecord: a work survives being written and read.
func TestRecord(t *testing.T) {
	w := work("a", "b")
	w.Launch.EnvironmentVariables = map[string]string{"A": "1"}
	w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/f", Content: []byte("large")}}
	w.Launch.Tags = []string{"t"}
	w.Secrets = []core.Secret{{EnvVar: "S", Value: "secret"}}
	r, err := newWorkRecord(w, 3, time.Unix(1, 0), "boot")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Launch), "bGFyZ2U") {
		t.Error("contents of files are in work.json")
	}
	got, err := r.work()
	if err != nil {
		t.Fatal(err)
	}
	w.Launch.MountedFiles[0].Content = nil
	if protojson.Format(got.Launch) != protojson.Format(w.Launch) || protojson.Format(got.Spec) != protojson.Format(w.Spec) {
		t.Errorf("%v", got)
	}
	got.Launch, got.Spec, w.Launch, w.Spec = nil, nil, nil, nil
	w.Secrets = nil // They are in no record.
	if !reflect.DeepEqual(got, w) {
		t.Errorf("%+v, want %+v", got, w)
	}
}

// lives reports whether a process does anything still: a zombie waits for the machine's own process 1.
func lives(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}
