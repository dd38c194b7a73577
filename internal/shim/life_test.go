package shim_test

import (
	"testing"

	"github.com/bermhq/berm/internal/shim"
)

func TestEcho(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
		e := s.wait()
		if e.Reason != shim.ReasonExited || e.ExitCode == nil || *e.ExitCode != 7 || e.Signal != 0 || e.OutputBytes != 8 {
			t.Errorf("exit %+v", e)
		}
	})
}
