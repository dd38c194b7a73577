package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingOfTheMachine: runtimes give what they inherit to the user of the container. So nothing of the machine is given to them.
func TestNothingOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	runtime := filepath.Join(dir, "runtime")
	if err := os.WriteFile(runtime, []byte("#!/bin/sh\nreadlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"process": {"args": ["/init"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Container{Runtime: runtime, Root: dir, Bundle: dir, ID: "c", Spawn: &Direct{}}
	for name, call := range map[string]func() error{"delete": c.Delete, "hostname": func() error { return c.SetHostname("x") }} {
		err := call()
		if err == nil || strings.Contains(err.Error(), "/dev/") || strings.Count(err.Error(), "pipe:") != 2 || !strings.Contains(err.Error(), "memfd:") {
			t.Errorf("%s was given: %v", name, err)
		}
	}
}
