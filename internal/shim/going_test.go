package shim_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// TestStopOfOneThatGoes: a shim that is just going hangs up without an answer. Its sandbox has ended, which is what a stop is for; while
// nothing says so on disk, it is an error.
func TestStopOfOneThatGoes(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "shim.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for first := true; ; first = false {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if _, err := wire.NewReader(c).Read(); err == nil && first { // Who connects is told that it is there.
				_ = wire.WriteJSON(c, wire.TypeOK, shim.Record{})
			}
			c.Close()
		}
	}()
	client, err := shim.Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Stop(t.Context(), 0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a word of an end: %v", err)
	}
	exit := `{"version":1,"id":"x","reason":"EXITED","exit_code":3,"ended_at":"2026-01-02T03:04:05Z","output_bytes":1}`
	if err := os.WriteFile(filepath.Join(dir, "exit.json"), []byte(exit), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := client.Stop(t.Context(), 0); err != nil {
		t.Errorf("of one that has ended: %v", err)
	}
}
