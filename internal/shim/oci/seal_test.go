package oci_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bermhq/berm/internal/shim/oci"
)

// TestSeal: the copy runs, and not even root can change it, by whatever way it is opened.
func TestSeal(t *testing.T) {
	path, err := exec.LookPath("crun")
	if err != nil {
		t.Fatal(err)
	}
	f, err := oci.Seal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it can be written")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("it can be cut off")
	}
	if other, err := os.OpenFile(oci.ProgramPath(f), os.O_RDWR, 0); err == nil {
		if _, err := other.WriteAt([]byte("x"), 0); err == nil {
			t.Error("it can be opened anew, and written")
		}
		other.Close()
	}
	if out, err := exec.Command(oci.ProgramPath(f), "--version").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSealRefuses: what would not run from memory is run from its file.
func TestSealRefuses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "crun")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{script, "/bin/false", filepath.Join(t.TempDir(), "none")} {
		if f, err := oci.Seal(path); err == nil {
			f.Close()
			t.Errorf("%s was sealed", path)
		}
	}
}
