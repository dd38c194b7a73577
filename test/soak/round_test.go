package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
)

// round is what a caller does with one sandbox: launch it, use it in one way, and end it.
type round struct {
	*world
	*tally
	kind int
	name string
	id   string
}

// kinds are the ways to use a sandbox.
var kinds = []struct {
	name string
	// idle sandboxes wait for commands, others print as their main process.
	idle bool
	use  func(*round, context.Context) error
}{
	{"a command that is kept", true, (*round).kept},
	{"input of a command that is kept", true, (*round).typed},
	{"the output of a main process", false, (*round).logged},
	{"the published stream", true, (*round).streamed},
	{"a file", true, (*round).file},
}

// lines is how much is printed: some hundred kilobytes, slowly enough that it lasts for seconds.
const lines = 20_000

// printing is a program that prints numbers on both streams and ends with a code, and what comes of it.
func printing(code int) (argv []string, want []byte) {
	script := fmt.Sprintf(`i=0; while [ $i -lt 20 ]; do seq $((i*%d)) $((i*%d+%d)); sleep 0.1; i=$((i+1)); done; exit %d`, lines/20, lines/20, lines/20-1, code)
	var b bytes.Buffer
	for i := range lines {
		b.WriteString(strconv.Itoa(i))
		b.WriteByte('\n')
	}
	return []string{"sh", "-c", script}, b.Bytes()
}

// anyCode is an exit code that nothing would make up.
func anyCode() int { return 10 + rand.N(100) } //nolint:gosec // no secret

func (r *round) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	kind := kinds[r.kind]
	req := &v1beta2pb.StartSandboxRequest{RunnerIds: []string{runnerID}, Idle: kind.idle, Tags: []string{r.name}}
	code := anyCode()
	if !kind.idle {
		argv, _ := printing(code)
		req.Command, req.Args = argv[0], argv[1:]
	}
	if err := r.launch(ctx, req); err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	r.sandboxes.Add(1)
	if err := kind.use(r, ctx); err != nil {
		return fmt.Errorf("sandbox %s: %w", r.id, err)
	}
	return r.end(ctx, code)
}

// again calls fn until it is not cut off, or has a result that is none of the connection's.
func (r *round) again(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if err == nil || !cut(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w; at last: %w", ctx.Err(), err)
		}
		r.repeated.Add(1)
		time.Sleep(100 * time.Millisecond)
	}
}

// cut says whether an error leaves open what happened, or says to come again.
func cut(err error) bool { return fault.Is(err, fault.Unavailable) }

// launch starts a sandbox. Where no answer came, the one that there may be is looked for by its tag before another is made.
func (r *round) launch(ctx context.Context, req *v1beta2pb.StartSandboxRequest) error {
	asked := false
	return r.again(ctx, func() error {
		if asked {
			list, err := r.client.Gateway().List(ctx, &v1beta2pb.ListSandboxesRequest{Tags: []string{r.name}, IncludeStopped: true})
			if err != nil {
				return err
			}
			for _, s := range list.GetSandboxes() {
				switch s.GetSandboxStatus() {
				case v1beta2pb.SandboxStatus_SANDBOX_STATUS_FAILED: // It never ran: a server was killed while it handed it over.
				default:
					r.id = s.GetSandboxId()
					return nil
				}
			}
		}
		asked = true
		resp, err := r.client.Start(ctx, req)
		// A runner that is away is not placed on; it comes back.
		if fault.HasReason(err, "CWSANDBOX_NO_SUITABLE_RUNNER") {
			return fault.New(fault.Unavailable, "AGAIN", "%v", err)
		}
		r.id = resp.GetSandboxId()
		return err
	})
}

// end deletes the sandbox and holds what is said of it against what it did.
func (r *round) end(ctx context.Context, code int) error {
	if !kinds[r.kind].idle {
		if err := r.ended(ctx, code); err != nil {
			return err
		}
	}
	return r.again(ctx, func() error {
		_, err := r.client.Gateway().Delete(ctx, &v1beta2pb.DeleteSandboxRequest{SandboxId: r.id})
		return err
	})
}

// ended waits for the end of the main process, of which only its own code may be told.
func (r *round) ended(ctx context.Context, code int) error {
	live := []v1beta2pb.SandboxStatus{v1beta2pb.SandboxStatus_SANDBOX_STATUS_CREATING, v1beta2pb.SandboxStatus_SANDBOX_STATUS_PENDING, v1beta2pb.SandboxStatus_SANDBOX_STATUS_RUNNING}
	for {
		var got *v1beta2pb.GetSandboxResponse
		err := r.again(ctx, func() (err error) {
			got, err = r.client.Gateway().Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: r.id})
			return err
		})
		switch {
		case err != nil:
			return err
		case slices.Contains(live, got.GetSandboxStatus()):
			time.Sleep(100 * time.Millisecond)
		case got.GetSandboxStatus() != v1beta2pb.SandboxStatus_SANDBOX_STATUS_COMPLETED || got.ExitCode == nil || int(got.GetExitCode()) != code:
			return fmt.Errorf("it is said to be %s with %d, and it ended with %d", got.GetSandboxStatus(), got.GetExitCode(), code)
		default:
			return nil
		}
	}
}

// same holds output against what was printed.
func (r *round) same(got, want []byte) error {
	r.bytes.Add(int64(len(got)))
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%d bytes came, not %d; they differ from byte %d on", len(got), len(want), at)
}

var errTwoEnds = errors.New("two ends were told")
