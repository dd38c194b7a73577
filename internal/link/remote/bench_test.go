package remote_test

import (
	"errors"
	"io"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
)

// pair runs a benchmark on a runner in process and over a loopback line, so that what the line costs is the difference.
func pair(b *testing.B, fn func(b *testing.B, l runner.Link)) {
	f := fake.New(fake.Config{})
	if err := f.Create(b.Context(), &backend.Work{SandboxID: "s", Spec: &specpb.ProfileSpec{}, Launch: &specpb.Launch{Command: "sleep", Args: []string{"infinity"}}}); err != nil {
		b.Fatal(err)
	}
	agent := runner.NewAgent(f, nil)
	b.Run("embedded", func(b *testing.B) { fn(b, agent) })
	b.Run("line", func(b *testing.B) { fn(b, linktest.Over(b, agent, linktest.Config{}).Link) })
}

// BenchmarkExec runs `true` with the fake backend: what is left is the line.
func BenchmarkExec(b *testing.B) {
	pair(b, func(b *testing.B, l runner.Link) {
		for b.Loop() {
			p, err := l.Exec(b.Context(), "s", backend.Exec{Argv: []string{"true"}})
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = p.Recv()
			}
			if !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
			_ = p.Close()
		}
	})
}

// BenchmarkOutput streams what a command prints.
func BenchmarkOutput(b *testing.B) {
	pair(b, func(b *testing.B, l runner.Link) {
		const size = 64 << 20
		b.SetBytes(size)
		for b.Loop() {
			p, err := l.Exec(b.Context(), "s", backend.Exec{Argv: []string{"head", "-c", "67108864", "/dev/zero"}})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for err == nil {
				var f backend.Frame
				f, err = p.Recv()
				n += len(f.Data)
			}
			if n != size {
				b.Fatalf("%d bytes, %v", n, err)
			}
			_ = p.Close()
		}
	})
}

// BenchmarkCheck asks what would be refused, as a plan does.
func BenchmarkCheck(b *testing.B) {
	pair(b, func(b *testing.B, l runner.Link) {
		w := &backend.Work{Spec: &specpb.ProfileSpec{}, Launch: &specpb.Launch{Command: "true"}}
		for b.Loop() {
			if err := l.Check(w); err != nil {
				b.Fatal(err)
			}
		}
	})
}
