// Package userns makes user namespaces that nobody lives in, owned by whom they are to be counted against.
//
// Who makes a user namespace owns it, and the kernel counts what is made in it against the owner too, up to the machine's settings for each
// user: instances and watches of inotify, namespaces, pending signals, message queues. So a namespace is made by a process of the owner's.
package userns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// New returns a user namespace with a mapping of ids that belongs to owner, an id of this process's own user namespace. It lasts as long as
// the file is open, or somebody lives in it. It needs the capabilities of root.
func New(owner int, ids ...syscall.SysProcIDMap) (*os.File, error) {
	var f *os.File
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if f, err = makeOne(owner, ids); err == nil {
			runtime.UnlockOSThread()
		} // Else the thread ends here: it may not be what it was.
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("a user namespace of user %d: %w", owner, err)
	}
	return f, nil
}

// Owner returns who a user namespace belongs to.
func Owner(ns *os.File) (int, error) {
	id, err := unix.IoctlGetUint32(int(ns.Fd()), unix.NS_GET_OWNER_UID)
	return int(id), os.NewSyscallError("NS_GET_OWNER_UID", err)
}

// makeOne makes the namespace with a process that is in it for long enough to take a handle.
func makeOne(owner int, ids []syscall.SysProcIDMap) (f *os.File, err error) {
	pid, err := startAs(owner)
	if pid > 0 {
		defer func() {
			if endErr := end(pid); err == nil && endErr != nil {
				err = errors.Join(endErr, f.Close())
			}
		}()
	}
	if err != nil {
		return nil, err
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if err := errors.Join(writeMap(dir+"/uid_map", ids), writeMap(dir+"/gid_map", ids)); err != nil {
		return nil, err
	}
	return os.Open(dir + "/ns/user")
}

// startAs starts a process in a new user namespace, from a thread that is owner's for that moment. There may be a process in spite of an
// error, which says that the thread is not what it was.
func startAs(owner int) (pid int, err error) {
	// The new process has the handlers of this one, and cannot run them.
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, err
	}
	if self := os.Geteuid(); owner == self {
		pid, err = clone()
	} else {
		pid, err = cloneAs(owner, self)
	}
	return pid, errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil))
}

// changing lets one thread at a time have another user: what the kernel makes of that is the whole process's.
var changing sync.Mutex

// cloneAs is clone with another effective user. The kernel takes a process of which one thread had that for one that is not to be looked
// at, even by itself through another; which is taken back.
func cloneAs(owner, self int) (pid int, err error) {
	changing.Lock()
	defer changing.Unlock()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return 0, os.NewSyscallError("PR_GET_DUMPABLE", err)
	}
	if err = become(owner); err == nil {
		pid, err = clone()
	}
	return pid, errors.Join(err, become(self), os.NewSyscallError("PR_SET_DUMPABLE", unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0)))
}

// become makes id the effective user of this thread, alone, and keeps its capabilities.
func become(id int) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for i := range caps {
		caps[i].Effective = caps[i].Permitted
	}
	return os.NewSyscallError("capset", unix.Capset(&header, &caps[0]))
}

// clone starts a process that does nothing, in a new user namespace. It ends with this thread at the latest, and sends no signal then:
// whoever waits for all children, as a shim does, does not take it for one.
func clone() (pid int, err error) {
	r := cloneRaw(uintptr(os.Getpid()))
	if errno := -int(r); errno > 0 {
		return 0, os.NewSyscallError("clone", syscall.Errno(errno))
	}
	return int(r), nil
}

// cloneRaw makes the system call and is what the new process runs, which ends when parent is not its parent any more. That one shares this
// one's memory, and uses none: to copy the memory, or to start a program, costs several times as much as all the rest. There is one for amd64
// and one for arm64.
func cloneRaw(parent uintptr) (r uintptr)

// end ends such a process. Its id is nobody else's before it was waited for.
func end(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return os.NewSyscallError("kill", err)
	}
	for {
		_, err := unix.Wait4(pid, nil, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("wait4", err)
		}
	}
}

// writeMap writes a mapping of ids, which the kernel wants at once.
func writeMap(path string, ids []syscall.SysProcIDMap) error {
	var text strings.Builder
	for _, m := range ids {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text.String())
	return errors.Join(err, f.Close())
}
