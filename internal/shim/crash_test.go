package shim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/host"
)

// These variables make the test binary a server that runs one sandbox from start to end, so that it can be killed.
const (
	serverConfig = "SHIM_TEST_CONFIG"
	serverState  = "SHIM_TEST_STATE"
	serverShim   = "SHIM_TEST_BINARY"
)

// trapping is a main process that ends with code 3 when asked to.
var trapping = []string{"/bin/sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"}

// serve is that server: start, a command, stop, forget, clean up.
func serve() int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, err := os.ReadFile(os.Getenv(serverConfig))
	cfg := shim.Config{Dir: os.Getenv(serverState)}
	if err == nil {
		err = json.Unmarshal(data, &cfg)
	}
	if err == nil {
		err = serveOne(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveOne(ctx context.Context, cfg shim.Config) error {
	c, err := shim.Start(ctx, os.Getenv(serverShim), cfg)
	if err != nil {
		return err
	}
	if cfg.Prepared {
		if err := c.Begin(ctx, shim.Begin{Hostname: "box", Main: trapping}); err != nil {
			return err
		}
	}
	p, err := c.Exec(ctx, shim.ExecRequest{Argv: []string{"true"}})
	if err != nil {
		return err
	}
	if _, err := collect(p); err != nil {
		return err
	}
	for _, call := range []func(context.Context) error{c.Pause, c.Resume, c.Pause} { // the last is ended by the stop
		if err := call(ctx); err != nil {
			return err
		}
	}
	if err := c.Stop(ctx, patience); err != nil {
		return err
	}
	if _, err := c.Wait(ctx); err != nil {
		return err
	}
	if err := c.Forget(ctx); err != nil {
		return err
	}
	_, err = shim.Cleanup(ctx, cfg.Dir)
	return err
}

// serveWith runs such a server with a failpoint armed and returns what was logged of it.
func (s *sandbox) serveWith(point string) string {
	s.t.Helper()
	s.writeBundle()
	config, err := json.Marshal(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Dir(s.cfg.Dir)
	if err := os.WriteFile(filepath.Join(dir, "server.json"), config, 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	log := filepath.Join(dir, "failpoints")
	cmd.Env = append(os.Environ(), serverConfig+"="+filepath.Join(dir, "server.json"), serverState+"="+s.cfg.Dir, serverShim+"="+binary,
		failpoint.EnvSpec+"="+point, failpoint.EnvLog+"="+log)
	out, err := cmd.CombinedOutput()
	s.t.Logf("%s: server: %v %s", point, err, out)
	logged, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(logged)
}

// TestCrashMatrix kills server or shim at every failpoint there is. Whatever happens, the end is told truthfully and nothing
// is left of the sandbox.
func TestCrashMatrix(t *testing.T) {
	points, err := failpoint.Register(shim.Failpoints(), host.Failpoints())
	if err != nil {
		t.Fatal(err)
	}
	runtimes(t, func(t *testing.T, runtime string) {
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				main := trapping
				if point == "shim.before-start-failed-record" {
					main = []string{"no-such-command"}
				}
				prepared := strings.Contains(point, "prepared") || strings.Contains(point, "begin") || strings.Contains(point, "begun")
				if prepared {
					main = nil
				}
				s := newSandbox(t, runtime, main...)
				s.cfg.Prepared = prepared
				if logged := s.serveWith(point); !strings.Contains(logged, point+"\n") {
					t.Errorf("the failpoint was not reached: %q", logged)
				}
				s.recover(point)
			})
		}
	})
}

// recover does what a restarted server does, and checks what it learns.
func (s *sandbox) recover(point string) {
	s.t.Helper()
	st, err := shim.Inspect(s.cfg.Dir)
	if err != nil {
		s.t.Fatal(err)
	}
	if c, err := shim.Connect(s.ctx(), s.cfg.Dir); err == nil {
		if err := c.Stop(s.ctx(), patience); err != nil && st.Status != shim.StatusLost {
			s.t.Errorf("%s: stop: %v", point, err)
		}
		s.client = c
		if _, err := c.Wait(s.ctx()); err != nil && !errors.Is(err, shim.ErrLost) {
			s.t.Errorf("%s: wait: %v", point, err)
		}
		_ = c.Forget(s.ctx())
	}
	e, err := shim.Cleanup(s.ctx(), s.cfg.Dir)
	if err != nil {
		s.t.Fatalf("%s: cleanup: %v\n%s", point, err, s.logs())
	}
	after, err := shim.Inspect(s.cfg.Dir)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: found %s, recovered %s %q code %d", point, st.Status, after.Status, e.Reason, deref(e.ExitCode))
	switch after.Status {
	case shim.StatusNone:
		if e.Reason != "" {
			s.t.Errorf("%s: an end of what never was: %+v", point, e)
		}
	case shim.StatusLost:
		if e.Reason != shim.ReasonLost || e.ExitCode != nil {
			s.t.Errorf("%s: a loss is told as %+v", point, e)
		}
	case shim.StatusExited:
		// 143 is for a main process that was asked to end before it had said what it would do then.
		if e.ExitCode != nil && *e.ExitCode != 3 && *e.ExitCode != 143 || e.Reason != shim.ReasonStopped && e.Reason != shim.ReasonStartFailed {
			s.t.Errorf("%s: the end is told as %+v", point, e)
		}
	default:
		s.t.Errorf("%s: still %s", point, after.Status)
	}
	if after.Attended {
		s.t.Errorf("%s: somebody is still in charge", point)
	}
}

// TestShimKilledAnytime kills the shim at arbitrary moments of a start: nothing may be left, not even what the runtime had
// only begun.
func TestShimKilledAnytime(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		for delay := time.Duration(0); delay < 30*time.Millisecond; delay += 1500 * time.Microsecond {
			s := newSandbox(t, runtime, trapping...)
			s.writeBundle()
			done := make(chan error, 1)
			go func() {
				_, err := shim.Start(s.ctx(), binary, s.cfg)
				done <- err
			}()
			var pid int
			eventually(t, "the shim is there", func() error {
				r, err := shim.ReadRecord(s.cfg.Dir)
				if err != nil || r == nil {
					return fmt.Errorf("no record: %w", err)
				}
				pid = r.ShimPID
				return nil
			})
			time.Sleep(delay) // The moment is arbitrary on purpose.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			err := <-done
			s.recover(fmt.Sprintf("killed after %v (start: %v)", delay, err != nil))
			s.destroy()
			s.checkNothingLeft(mounts(t))
		}
	})
}
