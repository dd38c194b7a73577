package initd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// Defaults of the environment.
const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	rootHome    = "/root"
	otherHome   = "/"
	defaultTerm = "xterm"
)

const (
	// oomStep is worth half the memory limit in the kernel's choice of a victim, which is more than the init ever uses.
	oomStep     = 500
	maxOOMScore = 1000
)

// child is a process that was started for a request.
type child struct {
	pid  int
	done <-chan syscall.WaitStatus
}

// spawnFiles are descriptors for a new process. tty says that stdin is a terminal that becomes its controlling one.
type spawnFiles struct {
	stdin, stdout, stderr int
	tty                   bool
}

// spawn starts a command in a session of its own. The environment is the base environment with the request's over it.
func (d *daemon) spawn(req wire.Request, files spawnFiles) (*child, *wire.Error) {
	if len(req.Argv) == 0 || req.Argv[0] == "" {
		return nil, wire.Errorf(wire.CodeInvalid, "no command")
	}
	base, dir := d.defaults()
	env := mergeEnv(base, req.Env)
	if files.tty && lookupEnv(env, "TERM") == "" {
		env = append(env, "TERM="+defaultTerm)
	}
	if req.Dir != "" {
		dir = inDir(dir, req.Dir)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	path, werr := lookup(req.Argv[0], lookupEnv(env, "PATH"), dir)
	if werr != nil {
		return nil, werr
	}
	pid, done, err := d.reaper.Spawn(path, req.Argv, &syscall.ProcAttr{
		Dir: dir, Env: env,
		Files: []uintptr{uintptr(files.stdin), uintptr(files.stdout), uintptr(files.stderr)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: files.tty},
	})
	if err != nil {
		return nil, execError(path, err)
	}
	d.offerToOOM(pid)
	return &child{pid: pid, done: done}, nil
}

// offerToOOM makes a process a likelier victim of the kernel than the init, should memory run out: the init must live to
// tell which command was killed. The init's own value cannot be lowered, so it is the others that go up. What fails here
// (an image's program that is not readable, say) leaves the kernel's own choice.
func (d *daemon) offerToOOM(pid int) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer closeFD(fd)
	_, _ = unix.Write(fd, d.oomScore)
}

// childScore is the oom_score_adj of commands, in the form the kernel reads: oomStep above the init's own.
func childScore() []byte {
	own := 0
	if b, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		own, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	return []byte(strconv.Itoa(min(own+oomStep, maxOOMScore)))
}

func checkDir(dir string) *wire.Error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return wire.Errorf(wire.CodeExecFailed, "working directory %s: %v", dir, reason(err))
	case !info.IsDir():
		return wire.Errorf(wire.CodeExecFailed, "working directory %s is not a directory", dir)
	}
	return nil
}

// execError explains why a program that is there could not run.
func execError(path string, err error) *wire.Error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return wire.Errorf(wire.CodePermissionDenied, "%s: permission denied", path)
	case errors.Is(err, unix.ENOENT):
		return wire.Errorf(wire.CodeExecFailed, "%s exists, but the interpreter or loader that it names does not", path)
	case errors.Is(err, unix.ENOEXEC):
		return wire.Errorf(wire.CodeExecFailed, "%s is neither a program for this machine nor a script that begins with #!", path)
	case errors.Is(err, unix.EAGAIN):
		return wire.Errorf(wire.CodeExecFailed, "%s: no more processes: the sandbox's limit is reached", path)
	case errors.Is(err, unix.E2BIG):
		return wire.Errorf(wire.CodeExecFailed, "%s: arguments and environment are too long", path)
	default:
		return wire.Errorf(wire.CodeExecFailed, "%s: %v", path, reason(err))
	}
}

// lookup finds the program as execvp would, with relative names taken from dir, and says why when it cannot run.
func lookup(name, path, dir string) (string, *wire.Error) {
	if strings.Contains(name, "/") {
		file := inDir(dir, name)
		return file, executable(file, name)
	}
	var refused *wire.Error
	for element := range strings.SplitSeq(path, ":") {
		if element == "" { // By tradition the working directory; nobody wants that.
			continue
		}
		file := inDir(dir, element+"/"+name)
		err := executable(file, name)
		if err == nil {
			return file, nil
		}
		if err.Code != wire.CodeCommandNotFound && refused == nil {
			refused = err
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", wire.Errorf(wire.CodeCommandNotFound, "command %q not found in PATH (%s)", name, path)
}

func executable(file, name string) *wire.Error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return wire.Errorf(wire.CodeCommandNotFound, "command %q not found", name)
	case errors.Is(err, fs.ErrPermission):
		return wire.Errorf(wire.CodePermissionDenied, "%s: permission denied", file)
	case err != nil:
		return wire.Errorf(wire.CodeExecFailed, "%s: %v", file, reason(err))
	case info.IsDir():
		return wire.Errorf(wire.CodePermissionDenied, "%s is a directory", file)
	case unix.Access(file, unix.X_OK) != nil:
		return wire.Errorf(wire.CodePermissionDenied, "%s is not executable", file)
	}
	return nil
}

func inDir(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// mergeEnv lays over over base, name by name, and adds what every process needs. The last entry of a name counts.
func mergeEnv(base, over []string) []string {
	env := make([]string, 0, len(base)+len(over)+2)
	at := make(map[string]int, len(base)+len(over))
	set := func(name, entry string) {
		if i, known := at[name]; known {
			env[i] = entry
			return
		}
		at[name] = len(env)
		env = append(env, entry)
	}
	for _, entry := range slices.Concat(base, over) {
		if name, _, ok := strings.Cut(entry, "="); ok && name != "" {
			set(name, entry)
		}
	}
	for _, d := range [][2]string{{"PATH", defaultPath}, {"HOME", home()}} {
		if lookupEnv(env, d[0]) == "" {
			set(d[0], d[0]+"="+d[1])
		}
	}
	return env
}

func home() string {
	if os.Getuid() == 0 {
		return rootHome
	}
	return otherHome
}

func lookupEnv(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// reason strips the operation and path that our own messages name already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
