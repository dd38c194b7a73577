// Package oci runs OCI runtimes, by their command line: one container, started detached and deleted.
package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits.
const (
	// DeleteTimeout bounds one call of the runtime's delete.
	DeleteTimeout = 20 * time.Second
	// maxWords is how much of what a call that failed says goes into its error, in bytes, and wordsTimeout how long it is waited for: a
	// deadline that has passed reads nothing, whatever is there.
	maxWords     = 2 << 10
	wordsTimeout = 100 * time.Millisecond
	// initNice is the priority of process 1 among the processes of its control group, the highest: see package initd.
	initNice = -20
	// unifiedMount is where a hybrid host has its cgroup v2 hierarchy.
	unifiedMount = "/sys/fs/cgroup/unified"
	// netSettings is where the settings of the network namespace of whoever looks are.
	netSettings = "/proc/sys/net"
)

// Container names a container to its runtime.
type Container struct {
	// Runtime, Root and Bundle are absolute paths.
	Runtime, Root, Bundle string
	ID                    string
	// Program is a sealed copy of Runtime that is run instead, see Seal; nil without one.
	Program *os.File
	// Kind is the runtime's; Flags are global ones of its command line, before the verb.
	Kind  Kind
	Flags []string
	// Holder is the berm-shim binary, which starts a runtime that would pass Hold on: see HoldArgs.
	Holder string
	// Log is the file that the runtime logs the start to.
	Log string
	// HideUnified and HideSettings: see shim.Config.
	HideUnified, HideSettings bool
	// Network is the network namespace that the runtime works in, and with it a container whose configuration names none; "" is ours.
	Network string
	Spawn   Spawner
}

// Stdio is what the runtime, and then the container, get as descriptors.
type Stdio struct {
	// Console is 1 and 2: the runtime's own words, and then those of process 1.
	Console *os.File
	// Socket, Stdout and Stderr become descriptors 3, 4 and 5 of process 1, where the runtime passes them on; else they are nil.
	Socket, Stdout, Stderr *os.File
	// Hold is open in the runtime alone, for as long as it works.
	Hold *os.File
}

// Run creates and starts the container and returns when the runtime is done; the container's process 1 is then a child of
// the nearest subreaper, and its id is in pidFile.
func (c *Container) Run(pidFile string, io Stdio, timeout time.Duration) error {
	return c.begin("run", c.Kind.runArgs(), pidFile, io, timeout)
}

// Restore is Run for a container that goes on from where Checkpoint saved one in dir.
func (c *Container) Restore(dir, pidFile string, io Stdio, timeout time.Duration) error {
	return c.begin("restore", []string{"restore", "--detach", "--image-path", dir}, pidFile, io, timeout)
}

// Checkpoint saves the container in a directory of its own, and ends it.
func (c *Container) Checkpoint(dir string, timeout time.Duration) error {
	return c.ask("checkpoint", []string{"--log", c.Log, "checkpoint", "--image-path", dir, c.ID}, timeout)
}

func (c *Container) begin(verb string, verbArgs []string, pidFile string, io Stdio, timeout time.Duration) error {
	empty, err := emptyInput()
	if err != nil {
		return err
	}
	defer empty.Close()
	files := []uintptr{empty.Fd(), io.Console.Fd(), io.Console.Fd()}
	if c.Kind.Dials() {
		files = append(files, io.Hold.Fd())
	} else {
		files = append(files, io.Socket.Fd(), io.Stdout.Fd(), io.Stderr.Fd(), io.Hold.Fd())
	}
	args := slices.Concat([]string{"--log", c.Log}, verbArgs, []string{"--bundle", c.Bundle, "--pid-file", pidFile, c.ID})
	return c.call(verb, args, files, timeout)
}

// emptyInput returns a file that is empty and can never be anything else. Not the host's /dev/null: crun gives a
// container's standard streams to the container's user, and whoever owns that device inside could take it from the host; and
// runsc gives those of a process that it starts in a container to the user that its own kernel runs as.
func emptyInput() (*os.File, error) {
	fd, err := unix.MemfdCreate("empty", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "empty")
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal", err)
	}
	return f, nil
}

// Delete kills the container if it runs and removes what the runtime keeps of it. It fails for a container that the runtime
// does not know. It needs nothing but the runtime's own directory.
func (c *Container) Delete() error {
	return c.ask("delete", []string{"delete", "--force", c.ID}, DeleteTimeout)
}

// ask makes a call that ends by itself; what it says is in its error.
func (c *Container) ask(verb string, args []string, timeout time.Duration) error {
	empty, err := emptyInput()
	if err != nil {
		return err
	}
	defer empty.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	err = c.call(verb, args, []uintptr{empty.Fd(), w.Fd(), w.Fd()}, timeout)
	if err == nil {
		return nil
	}
	said := make([]byte, maxWords)
	_ = r.SetReadDeadline(time.Now().Add(wordsTimeout)) // What it said is in the pipe by now; others may hold that open.
	n, _ := r.Read(said)
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said[:n]))
}

// Known reports whether the runtime keeps anything of the container.
func (c *Container) Known() bool {
	found, err := filepath.Glob(filepath.Join(c.Root, c.Kind.stateFiles(c.ID)))
	return err == nil && len(found) > 0
}

// Clear removes the runtime's files of a container of which nothing else is left.
func (c *Container) Clear() error {
	found, err := filepath.Glob(filepath.Join(c.Root, c.Kind.stateFiles(c.ID)))
	for _, file := range found {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// call runs the runtime. verb names the call in errors.
func (c *Container) call(verb string, args []string, files []uintptr, timeout time.Duration) error {
	path, argv := c.program(), slices.Concat([]string{filepath.Base(c.Runtime), "--root", c.Root}, c.Flags, args)
	if hold := len(files) - 1; hold > 2 && c.Kind.Dials() {
		path, argv = c.Holder, HoldArgs(hold, c.Runtime, argv)
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: os.Environ(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, done, err := c.start(path, argv, attr)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Runtime, err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case ws := <-done:
		return check(filepath.Base(c.Runtime), verb, ws)
	case <-timer.C:
		c.Spawn.Kill(pid, true, syscall.SIGKILL)
		<-done
		return fmt.Errorf("%s %s did not finish within %v and was killed", filepath.Base(c.Runtime), verb, timeout)
	}
}

// program is the path of what is run.
func (c *Container) program() string {
	if c.Program == nil {
		return c.Runtime
	}
	return ProgramPath(c.Program)
}

func check(runtime, verb string, ws syscall.WaitStatus) error {
	switch {
	case ws.Exited() && ws.ExitStatus() == 0:
		return nil
	case ws.Signaled():
		return fmt.Errorf("%s %s was killed by signal %d", runtime, verb, ws.Signal())
	default:
		return fmt.Errorf("%s %s failed with code %d", runtime, verb, ws.ExitStatus())
	}
}

// start spawns the runtime from a thread of its own: with the priority that the container's process 1 is to inherit, and where
// asked for in a mount namespace that lacks what it must not see, and in the container's network. The thread ends with its goroutine, and all with it.
func (c *Container) start(path string, argv []string, attr *syscall.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error) {
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		runtime.LockOSThread() // Never unlocked: the thread is spoilt for anything else.
		// Who may not (in a container without the capability, say) has an init that waits its turn like all others.
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, initNice)
		if err = c.enter(); err == nil {
			err = c.hide()
		}
		if err == nil {
			pid, done, err = c.Spawn.Spawn(path, argv, attr)
		}
	}()
	<-ready
	return pid, done, err
}

// enter takes the calling thread to the network of the container. A runtime that joins a user namespace first, as runc does before its
// version 1.2, has no right any more to join a network that belongs to the machine.
func (c *Container) enter() error {
	if c.Network == "" {
		return nil
	}
	ns, err := os.Open(c.Network)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w", c.Network, err)
	}
	return nil
}

// hide gives the calling thread a mount namespace without what the runtime must not see, if there is such a thing.
func (c *Container) hide() error {
	if !c.HideUnified && !c.HideSettings {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("private mount namespace: %w", err)
	}
	// Slave, not private: what the host unmounts later must go here too.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("private mount namespace: %w", err)
	}
	if c.HideUnified { // crun refuses a hybrid host otherwise.
		if err := unix.Unmount(unifiedMount, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("hide %s: %w", unifiedMount, err)
		}
	}
	if c.HideSettings {
		return hideSettings()
	}
	return nil
}

// hideSettings covers the settings of network namespaces. Below the cover is all of /proc once more: the kernel lets nobody mount
// one in a user namespace who sees none that is whole, and gVisor mounts one.
func hideSettings() error {
	if err := unix.Mount("none", netSettings, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,mode=0500"); err != nil {
		return fmt.Errorf("hide %s: %w", netSettings, err)
	}
	whole := filepath.Join(netSettings, "proc")
	if err := os.Mkdir(whole, 0o500); err != nil {
		return fmt.Errorf("hide %s: %w", netSettings, err)
	}
	if err := unix.Mount("/proc", whole, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hide %s: %w", netSettings, err)
	}
	return nil
}
