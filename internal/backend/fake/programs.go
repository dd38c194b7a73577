package fake

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// invocation is what a program sees.
type invocation struct {
	argv    []string
	env     map[string]string
	dir     string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	files   *files
	process *process
	// listen makes the sandbox listen at a port.
	listen func(port uint16, address string)
}

// program is a built-in: it returns the exit code, 128+n for signal n.
type program func(*invocation) int32

// lookup returns the program that argv names, by its base name, or nil.
func lookup(argv []string) program {
	if len(argv) == 0 {
		return nil
	}
	switch path.Base(argv[0]) {
	case "true":
		return func(*invocation) int32 { return 0 }
	case "false":
		return func(*invocation) int32 { return 1 }
	case "echo":
		return echo
	case "cat":
		return cat
	case "sleep":
		return sleep
	case "pwd":
		return func(i *invocation) int32 { return i.print(i.out, i.dir+"\n") }
	case "printenv":
		return printenv
	case "head":
		return head
	case "port-server":
		return portServer
	case "stty":
		return stty
	case "sh", "bash":
		return shell
	}
	return nil
}

// idles reports whether a main process waits for its end, so that no goroutine is needed for it.
func idles(argv []string) bool {
	switch path.Base(argv[0]) {
	case "sleep":
		return len(argv) == 2 && argv[1] == "infinity"
	case "sh", "bash":
		line := strings.Join(argv[1:], " ")
		return strings.Contains(line, "sleep infinity") && !strings.Contains(line, "echo")
	}
	return false
}

// onTerm says what a main process does when it is asked to end: with which code it ends, or that it does not.
func onTerm(argv []string) (code int32, ends bool) {
	line := strings.Join(argv, " ")
	switch {
	case strings.Contains(line, `trap "" TERM`):
		return 0, false
	case strings.Contains(line, "trap") && strings.Contains(line, "exit 0"):
		return 0, true
	}
	return exitTerminated, true
}

func (i *invocation) print(w io.Writer, s string) int32 {
	if _, err := io.WriteString(w, s); err != nil {
		return exitKilled
	}
	return 0
}

func (i *invocation) fail(code int32, format string, args ...any) int32 {
	i.print(i.err, fmt.Sprintf(format, args...)+"\n")
	return code
}

func echo(i *invocation) int32 {
	args, end := i.argv[1:], "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	return i.print(i.out, strings.Join(args, " ")+end)
}

func cat(i *invocation) int32 {
	args := slices.DeleteFunc(slices.Clone(i.argv[1:]), func(a string) bool { return a == "--" })
	if len(args) == 0 {
		args = []string{"-"}
	}
	for _, a := range args {
		if a == "-" {
			if _, err := io.Copy(i.out, i.in); err != nil {
				return exitKilled
			}
			continue
		}
		data, err := i.files.read(path.Join(i.dirFor(a), a))
		if err != nil {
			return i.fail(1, "cat: %s: no such file", a)
		}
		if _, err := i.out.Write(data); err != nil {
			return exitKilled
		}
	}
	return 0
}

func (i *invocation) dirFor(p string) string {
	if path.IsAbs(p) {
		return "/"
	}
	return i.dir
}

func sleep(i *invocation) int32 {
	if len(i.argv) != 2 {
		return i.fail(1, "sleep: one operand, please")
	}
	if i.argv[1] == "infinity" {
		<-i.process.killed
		return exitKilled
	}
	seconds, err := strconv.ParseFloat(i.argv[1], 64)
	if err != nil || seconds < 0 {
		return i.fail(1, "sleep: invalid time interval %q", i.argv[1])
	}
	if !i.process.sleep(time.Duration(seconds * float64(time.Second))) {
		return exitKilled
	}
	return 0
}

func printenv(i *invocation) int32 {
	if len(i.argv) == 1 {
		for _, k := range slices.Sorted(maps.Keys(i.env)) {
			i.print(i.out, k+"="+i.env[k]+"\n")
		}
		return 0
	}
	v, ok := i.env[i.argv[1]]
	if !ok {
		return 1
	}
	return i.print(i.out, v+"\n")
}

// head knows `head -c N /dev/zero`, the usual way to make output of a known size.
func head(i *invocation) int32 {
	if len(i.argv) != 4 || i.argv[1] != "-c" || i.argv[3] != "/dev/zero" {
		return i.fail(1, "head: only -c N /dev/zero is built in")
	}
	n, err := strconv.Atoi(i.argv[2])
	if err != nil || n < 0 {
		return i.fail(1, "head: invalid number of bytes")
	}
	chunk := make([]byte, 64<<10)
	for ; n > 0; n -= min(n, len(chunk)) {
		if _, err := i.out.Write(chunk[:min(n, len(chunk))]); err != nil {
			return exitKilled
		}
	}
	return 0
}

func stty(i *invocation) int32 {
	if !i.process.tty {
		return i.fail(1, "stty: not a terminal")
	}
	w, h := i.process.size()
	return i.print(i.out, fmt.Sprintf("%d %d\r\n", h, w))
}
