package app

import (
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/bermhq/berm/internal/config"
)

// TestAnnounce: what a server says about itself is of use in any directory.
func TestAnnounce(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &app{
		cfg: Config{DataDir: filepath.Join(dir, "data"), TLSCert: "cert.pem", RunningDir: filepath.Join(dir, "running")},
		log: slog.New(slog.DiscardHandler), listeners: &listeners{shared: l},
	}
	if err := a.announce(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(a.running)
	if err != nil {
		t.Fatal(err)
	}
	var r config.Running
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if r.CAFile != filepath.Join(dir, "cert.pem") || r.TokenFile != filepath.Join(dir, "data", "admin.token") || r.PID != os.Getpid() {
		t.Errorf("%+v", r)
	}
}

func TestPlaceID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "place.id")
	id, err := placeID(path)
	if err != nil || !placePattern.MatchString(id) {
		t.Fatalf("%q, %v", id, err)
	}
	if again, err := placeID(path); err != nil || again != id {
		t.Errorf("%q, then %q, %v", id, again, err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := placeID(path); err == nil {
		t.Errorf("of nonsense was made %q", other)
	}
}
