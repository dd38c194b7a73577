// Package networktest gives tests of sandbox networks a machine of their own: a network namespace without any way out, and behind
// it, in another, a world that answers at every address: the internet, private networks and metadata services alike. Nothing that
// a test sends can leave the machine that it runs on.
package networktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// envInside marks the process that runs the tests.
const envInside = "BERM_NETWORKTEST_INSIDE"

// Main runs the tests of a package in a network and mount namespace of their own, and returns the exit code. It is called by
// TestMain.
func Main(m *testing.M) int {
	if inside, code := Enter(); !inside {
		return code
	}
	return m.Run()
}

// Enter reports whether this process has a network and mount namespace of its own. The one that has not runs itself once more in one
// that has, waits for that, and is to end with the code. It needs root.
func Enter() (inside bool, code int) {
	if os.Getenv(envInside) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "networktest:", err)
			return false, 1
		}
		return true, 0
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "networktest: these tests need root: they make network namespaces")
		return false, 1
	}
	return false, again()
}

// again runs this program once more, in new namespaces, and returns its exit code.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // The signal comes when the thread ends that started it.
	asked := make(chan os.Signal, 8)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "networktest:", err)
		return 1
	}
	go func() {
		for s := range asked {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 1
}

// settle makes the namespaces usable, and makes sure that this is not the machine's own network: that has links.
func settle() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if a := l.Attrs(); a.Name != "lo" && a.OperState == netlink.OperUp {
			return fmt.Errorf("the network namespace has a link %s: this is not a new one", a.Name)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// Mounts of the tests are not seen outside, and go with the process.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	// What is seen in /proc/sys/net is that of the thread; in /sys it is that of the mount, which does not matter here.
	// A refusal is to be heard, however many there are.
	for s, value := range map[string]string{
		"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0", "ipv4/icmp_msgs_per_sec": "1000000", "ipv4/icmp_msgs_burst": "1000000",
	} {
		err := os.WriteFile("/proc/sys/net/"+s, []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // The last two are those of the machine in older kernels.
			return err
		}
	}
	return nil
}

// In runs f in another network namespace, given by its path, on a thread of its own.
func In(t testing.TB, path string, f func()) {
	t.Helper()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	if err := inside(ns, f); err != nil {
		t.Fatal(err)
	}
}

// inside runs f in a namespace. The thread ends with it.
func inside(ns netns.NsHandle, f func()) error {
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		f()
	}()
	return <-done
}
