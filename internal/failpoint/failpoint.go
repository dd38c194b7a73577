// Package failpoint lets a test kill a process at a named place, so that a crash at every write and at every call of a
// runtime can be tried on purpose.
//
// A place is a call of Hit with a constant name, such as "shim.before-exit-record". It does nothing unless the environment
// variable BERM_FAILPOINT names it; then the process ends as by kill -9, with no deferred call and no flush. The variable
// is inherited, so that one setting reaches whichever process passes the place. Each package that has failpoints lists
// them in a function Failpoints() []string; Register joins the lists for a harness that must reach every one.
package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	// EnvSpec names the variable that arms failpoints: "name" dies at the first hit, "name=3" at the third; several are
	// separated by commas. Hits are counted in each process on its own.
	EnvSpec = "BERM_FAILPOINT"
	// EnvLog names the variable with the path of a file that the failpoint's name is appended to before the process dies.
	EnvLog = "BERM_FAILPOINT_LOG"
	// EnvGate names the variable with the path of a gate: while it is set, hits count only when a file is at the path. A test
	// can so arm a process at its start and let it die later, in the middle of something.
	EnvGate = "BERM_FAILPOINT_GATE"
	// exitKilled is the code of a process that its own SIGKILL could not end: process 1 of a pid namespace.
	exitKilled = 128 + int(syscall.SIGKILL)
)

// armed holds what the environment asked for when the first failpoint was passed. The environment is read once: a process
// cannot arm itself half-way, and an unarmed Hit costs one atomic load.
var armed = sync.OnceValue(func() map[string]*atomic.Int64 { return parse(os.Getenv(EnvSpec)) })

// Hit ends the process when the failpoint is armed and its turn has come; otherwise it does nothing.
func Hit(name string) {
	points := armed()
	if points == nil {
		return
	}
	left, ok := points[name]
	if !ok || !open() || left.Add(-1) != 0 {
		return
	}
	die(name)
}

// open reports whether hits count now.
func open() bool {
	gate := os.Getenv(EnvGate)
	if gate == "" {
		return true
	}
	_, err := os.Stat(gate)
	return err == nil
}

// Environ returns the settings of this package in the environment, for a child that gets a clean one.
func Environ() []string {
	var env []string
	for _, name := range []string{EnvSpec, EnvLog, EnvGate} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// die logs the name and does not return.
func die(name string) {
	if path := os.Getenv(EnvLog); path != "" {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	os.Exit(exitKilled)
}

// parse reads a specification. What cannot be read arms nothing; Check reports it.
func parse(spec string) map[string]*atomic.Int64 {
	if spec == "" {
		return nil
	}
	points := map[string]*atomic.Int64{}
	for item := range strings.SplitSeq(spec, ",") {
		name, turn, err := parseItem(item)
		if err != nil {
			continue
		}
		points[name] = new(atomic.Int64)
		points[name].Store(turn)
	}
	return points
}

func parseItem(item string) (name string, turn int64, err error) {
	name, count, found := strings.Cut(strings.TrimSpace(item), "=")
	if !found {
		return name, 1, nil
	}
	turn, err = strconv.ParseInt(count, 10, 64)
	if err != nil || turn < 1 {
		return "", 0, fmt.Errorf("%s: %q: the hit to die at must be a number from 1", EnvSpec, item)
	}
	return name, turn, nil
}

// Register joins the lists of all packages into one, sorted. A name that is not "area.what", or that two places share, is
// an error: a harness that counts names would count one of them as reached when the other was.
func Register(lists ...[]string) ([]string, error) {
	var all []string
	for _, name := range slices.Concat(lists...) {
		if area, what, ok := strings.Cut(name, "."); !ok || area == "" || what == "" || strings.ContainsAny(name, ",= \n") {
			return nil, fmt.Errorf("failpoint %q: want a name like area.what, without comma, equals sign or space", name)
		}
		if slices.Contains(all, name) {
			return nil, fmt.Errorf("failpoint %q is declared twice", name)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all, nil
}

// Check reports a BERM_FAILPOINT in the environment that cannot be read or that names a failpoint not in known, which
// would never fire and make a crash test pass for nothing.
func Check(known []string) error {
	spec := os.Getenv(EnvSpec)
	if spec == "" {
		return nil
	}
	for item := range strings.SplitSeq(spec, ",") {
		name, _, err := parseItem(item)
		if err != nil {
			return err
		}
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s names %q, which is no failpoint", EnvSpec, name)
		}
	}
	return nil
}
