package config

import (
	"os/user"
	"path/filepath"
	"testing"
)

func TestStateDir(t *testing.T) {
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for want, env := range map[string]map[string]string{
		"/state/berm":          {"XDG_STATE_HOME": "/state", "HOME": "/home/a"},
		"/a/.local/state/berm": {"XDG_STATE_HOME": "relative", "HOME": "/a"},
		// A service that was started without HOME.
		filepath.Join(u.HomeDir, ".local/state/berm"): {},
	} {
		if got := StateDir(func(k string) string { return env[k] }); got != want {
			t.Errorf("%v: %s, want %s", env, got, want)
		}
	}
}

func TestRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.json")
	if _, live := ReadRunning(path); live {
		t.Error("nothing there is live")
	}
	f, err := WriteRunning(path, []byte(`{"pid": 1, "url": "http://127.0.0.1:1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if r, live := ReadRunning(path); !live || r.URL != "http://127.0.0.1:1" {
		t.Errorf("a server that runs: %+v, %v", r, live)
	}
	f.Close() // as the end of a process does
	if _, live := ReadRunning(path); live {
		t.Error("a server that ended is live: process 1 is another")
	}
}
