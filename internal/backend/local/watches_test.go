package local

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTellOfWatches: a machine whose sandboxes could take each other's file watches is told so, with what to do; others are not.
func TestTellOfWatches(t *testing.T) {
	for name, c := range map[string]struct {
		instances, watches string
		want               []string
	}{
		"as it comes": {"128\n", "8192\n", []string{"fs.inotify.max_user_instances=65536", "now=128", "fs.inotify.max_user_watches=1048576", "now=8192"}},
		"one of them": {"65536\n", "8192\n", []string{"fs.inotify.max_user_watches=1048576"}},
		"high enough": {"65536\n", "1048576\n", nil},
		"nonsense":    {"x", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"max_user_instances": c.instances, "max_user_watches": c.watches} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			b := &Backend{log: slog.New(slog.NewTextHandler(&log, nil))}
			b.tellOfWatches(dir)
			for _, w := range c.want {
				if !strings.Contains(log.String(), w) {
					t.Errorf("no %s in %s", w, log.String())
				}
			}
			if lines := strings.Count(log.String(), "\n"); lines != (len(c.want)+1)/2 {
				t.Errorf("%d lines: %s", lines, log.String())
			}
		})
	}
}
