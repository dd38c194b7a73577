package control_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core"
)

type workOf = backend.Work

func execOf(argv ...string) backend.Exec { return backend.Exec{Argv: argv} }

func fakeWith(capacity core.Amounts) fake.Config {
	return fake.Config{Info: backend.Info{Capacity: capacity}}
}

// output runs a process to its end and returns what it wrote and its code.
func output(t testing.TB, p backend.Process) (string, int32) {
	t.Helper()
	defer p.Close()
	var out []byte
	code := int32(-1)
	for {
		f, err := p.Recv()
		if errors.Is(err, io.EOF) {
			return string(out), code
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == backend.FrameExit {
			code = f.ExitCode
		}
		out = append(out, f.Data...)
	}
}

// eventually polls for a condition that nothing announces, with a bound that only a bug meets.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	bound := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-bound:
			w.Fatalf("waited in vain until %s", what)
		}
	}
}
