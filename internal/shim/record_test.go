package shim_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim"
)

func TestInspect(t *testing.T) {
	exit := `{"version":1,"id":"x","reason":"EXITED","exit_code":3,"ended_at":"2026-01-02T03:04:05Z","output_bytes":1}` + strings.Repeat(" ", 100) + "\n"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		locked bool
		want   shim.Status
	}{
		{"nothing", nil, false, shim.StatusNone},
		{"configured, nobody there", map[string]string{"config.json": "{}"}, false, shim.StatusLost},
		{"configured, somebody there", map[string]string{"config.json": "{}"}, true, shim.StatusStarting},
		{"created", map[string]string{"config.json": "{}", "state.json": `{"phase":"created"}`}, true, shim.StatusStarting},
		{"running", map[string]string{"config.json": "{}", "state.json": `{"phase":"running"}`}, true, shim.StatusRunning},
		{"stopping", map[string]string{"config.json": "{}", "state.json": `{"phase":"stopping"}`}, true, shim.StatusStopping},
		{"was running", map[string]string{"config.json": "{}", "state.json": `{"phase":"running"}`}, false, shim.StatusLost},
		{"ended", map[string]string{"config.json": "{}", "state.json": `{"phase":"running"}`, "exit.json": exit}, true, shim.StatusExited},
		{"ended long ago", map[string]string{"config.json": "{}", "exit.json": exit}, false, shim.StatusExited},
		{"torn record, nobody there", map[string]string{"config.json": "{}", "state.json": `{"pha`}, false, shim.StatusLost},
		{"torn record, somebody there", map[string]string{"config.json": "{}", "state.json": ``}, true, shim.StatusStarting},
		{"room for an end, nothing in it", map[string]string{"config.json": "{}", ".exit.json.tmp": exit}, false, shim.StatusLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.locked {
				lock(t, dir)
			}
			st, err := shim.Inspect(dir)
			if err != nil || st.Status != tt.want || st.Attended != tt.locked {
				t.Fatalf("%+v, %v", st, err)
			}
			if (st.Exit != nil) != (tt.want == shim.StatusExited) || st.Exit != nil && (*st.Exit.ExitCode != 3 || st.Exit.Reason != shim.ReasonExited) {
				t.Errorf("exit %+v", st.Exit)
			}
		})
	}
}

// lock holds a state directory the way a shim does.
func lock(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
}

// A broken exit record is an error, never an end that somebody made up.
func TestInspectBrokenExit(t *testing.T) {
	for _, content := range []string{"", "{", `{"exit_code":"0"}`, strings.Repeat(" ", 1<<20)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "exit.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := shim.Inspect(dir); err == nil {
			t.Errorf("%.10q: %+v", content, st)
		}
	}
}

func TestExitIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	room, err := shim.ReserveExit(dir)
	if err != nil {
		t.Fatal(err)
	}
	code := int32(3)
	e := shim.Exit{ID: "x", Reason: shim.ReasonExited, ExitCode: &code, EndedAt: time.Now(), Message: strings.Repeat("\x01é", 1<<20)}
	if err := room.Commit(e); err != nil {
		t.Fatal(err)
	}
	if err := room.Commit(shim.Exit{ID: "x", Reason: shim.ReasonStopped}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second end: %v", err)
	}
	got, err := shim.ReadExit(dir)
	if err != nil || got.Reason != shim.ReasonExited || *got.ExitCode != 3 || len(got.Message) > 4<<10 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The end can be told on a disk that filled up since the start.
func TestExitOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // The reserved file stays open with its process.
	room, err := shim.ReserveExit(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := room.Commit(shim.Exit{ID: "x", Reason: shim.ReasonExited}); err != nil {
		t.Fatal(err)
	}
	if got, err := shim.ReadExit(dir); err != nil || got == nil || got.Reason != shim.ReasonExited {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := shim.ReserveExit(t.TempDir()); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
}

func TestCleanupOfNothing(t *testing.T) {
	if e, err := shim.Cleanup(context.Background(), t.TempDir()); err != nil || e.Reason != "" {
		t.Errorf("%+v, %v", e, err)
	}
}

// After a power cut the newest files may be empty.
func TestCleanupAfterAPowerCut(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"config.json", "state.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := shim.Cleanup(context.Background(), dir); err != nil || e.Reason != shim.ReasonLost {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestStartTime(t *testing.T) {
	own, err := shim.StartTime(os.Getpid())
	if err != nil || own == 0 {
		t.Errorf("%d, %v", own, err)
	}
	if _, err := shim.StartTime(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
