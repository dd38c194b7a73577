package shim_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/userns"
)

// TestUsers: the user namespace of a sandbox belongs to the first of its own ids, and nothing but its processes keeps it.
func TestUsers(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		r, err := s.client.Info(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", r.PID))
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if owner, err := userns.Owner(ns); err != nil || owner != hostBase {
			t.Errorf("it belongs to %d (%v), not %d", owner, err, hostBase)
		}
		if _, err := os.Lstat(shim.UserNamespace(s.cfg.Bundle)); !os.IsNotExist(err) {
			t.Errorf("the way to it is left: %v", err)
		}
		if open := descriptors(t, r.ShimPID); strings.Contains(open, "user:[") {
			t.Errorf("the shim keeps it: %s", open)
		}
		if open := descriptors(t, r.PID); strings.Contains(open, "user:[") {
			t.Errorf("process 1 keeps it: %s", open)
		}
	})
}

// TestUsersOfRuntime: without ids the runtime makes the namespace.
func TestUsersOfRuntime(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := newSandbox(t, runtime)
		s.cfg.IDs = nil
		for _, n := range s.spec["linux"].(object)["namespaces"].([]object) {
			delete(n, "path")
		}
		s.mustStart()
		if got := s.sh("tr -s ' ' < /proc/self/uid_map"); got != fmt.Sprintf(" 0 %d %d", hostBase, hostIDs) {
			t.Errorf("its ids are %q", got)
		}
	})
}

// TestAround: a sandbox whose configuration names no network has the one that its runtime was started in.
func TestAround(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		other := start(t, runtime) // It has one to lend.
		r, err := other.client.Info(other.ctx())
		if err != nil {
			t.Fatal(err)
		}
		s := newSandbox(t, runtime)
		s.cfg.Network = fmt.Sprintf("/proc/%d/ns/net", r.PID)
		linux := s.spec["linux"].(object)
		all := linux["namespaces"].([]object)
		linux["namespaces"] = all[:len(all)-1]
		s.mustStart()
		want, err := os.Readlink(s.cfg.Network)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sh("readlink /proc/self/ns/net"); got != want {
			t.Errorf("it is in %s, not in %s", got, want)
		}
		gone := newSandbox(t, runtime)
		gone.cfg.Network = "/proc/1/ns/none"
		gone.spec["linux"].(object)["namespaces"] = all[:len(all)-1]
		if err := gone.tryStart(); err == nil || !strings.Contains(err.Error(), "network namespace") {
			t.Errorf("a network that is not there: %v", err)
		}
	})
}

// limits tells those of a process, and tries to raise each.
const limits = `ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; for l in 'n 1001' 'c 1'; do ulimit -H$l 2>/dev/null && echo raised; done; echo over`

// TestLimits: all processes of a sandbox have the limits that its init was told, and none raises them, as root of the sandbox either.
func TestLimits(t *testing.T) {
	want := fmt.Sprintf("%d\n%d\n0\n0\nover", openFiles, openFiles)
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime, "/bin/bash", "-c", limits+"; sleep 1000")
		s.awaitOutput("over")
		if got := strings.TrimSpace(s.mainOutput()); got != want {
			t.Errorf("main process: %q", got)
		}
		if r, err := s.exec("/bin/bash", "-c", limits); err != nil || strings.TrimSpace(r.stdout) != want {
			t.Errorf("command: %+v, %v", r, err)
		}
		r, err := s.client.Info(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.PID))
		if err != nil {
			t.Fatal(err)
		}
		of1 := strings.Join(strings.Fields(string(text)), " ")
		for _, l := range []string{"Max core file size 0 0 ", fmt.Sprintf("Max open files %d %d ", openFiles, openFiles)} {
			if !strings.Contains(of1, l) {
				t.Errorf("process 1: no %q in %s", l, text)
			}
		}
	})
}
