package launch

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Limits of a request.
const (
	// MaxArgs is how many arguments a command may have.
	MaxArgs = 4096
	// MaxArg is the longest command, argument or environment value, in bytes: Linux's limit for one string of execve.
	MaxArg = 128<<10 - 1
	// MaxArgv bounds command, arguments and environment together, in bytes, below what execve takes with the usual stack.
	MaxArgv = 1 << 20
	// MaxEnv is how many environment variables a request may set.
	MaxEnv = 1024
	// MaxEnvName is the longest name of a variable, in bytes.
	MaxEnvName = 256
	// MaxTags is how many tags a sandbox may have.
	MaxTags = 100
	// MaxTag is the longest tag, in bytes.
	MaxTag = 128
	// MaxAnnotations is how many annotations a request may add.
	MaxAnnotations = 100
	// MaxPorts is how many ports a request may declare.
	MaxPorts = 64
	// MaxPortName is the longest name of a port, as in Kubernetes.
	MaxPortName = 15
	// MaxMountedFiles is how many files may be mounted.
	MaxMountedFiles = 256
	// MaxMountedBytes is how many bytes they have together.
	MaxMountedBytes = 32 << 20
	// MaxPath is the longest path, in bytes.
	MaxPath = 4095
	// MaxLifetimeSeconds is 30 days.
	MaxLifetimeSeconds = 30 * 24 * 60 * 60
	// MaxNames is how many profile names, profile ids or runner ids a request may list.
	MaxNames = 100
	// MaxGPUs is the largest number of GPUs.
	MaxGPUs = 1024
	// MaxUnsupported is how many unsupported fields a refusal lists.
	MaxUnsupported = 64
)

// problems collects what is wrong with a request.
type problems struct{ tree.Problems }

func (p *problems) add(at, format string, args ...any) { p.Add(nil, at, format, args...) }

func (p *problems) err() error {
	err := p.Err("invalid launch request")
	if err == nil {
		return nil
	}
	f := fault.From(err)
	f.Reason = fault.ReasonInvalidRequest
	return f
}

func (p *problems) shape(l *specpb.Launch) {
	p.argv(l)
	p.tags(l.GetTags())
	p.count("pod_annotations", len(l.GetPodAnnotations()), MaxAnnotations)
	p.ports(l)
	p.files(l.GetMountedFiles())
	if s := l.GetMaxLifetimeSeconds(); s < 0 || s > MaxLifetimeSeconds {
		p.add("max_lifetime_seconds", "%d is not between 0 and %d (30 days); 0 asks for the profile's default", s, MaxLifetimeSeconds)
	}
	p.names("profile_names", l.GetProfileNames())
	p.names("profile_ids", l.GetProfileIds())
	p.names("runner_ids", l.GetRunnerIds())
}

func (p *problems) count(at string, n, most int) bool {
	if n > most {
		p.add(at, "%d entries, the limit is %d", n, most)
	}
	return n <= most
}

// argv checks what the main process is started with.
func (p *problems) argv(l *specpb.Launch) {
	total := len(l.GetCommand())
	p.cString("command", l.GetCommand())
	if p.count("args", len(l.GetArgs()), MaxArgs) {
		for i, a := range l.GetArgs() {
			total += len(a)
			p.cString(index("args", i), a)
		}
	}
	env := l.GetEnvironmentVariables()
	if p.count("environment_variables", len(env), MaxEnv) {
		for _, name := range sorted(env) {
			at := "environment_variables[" + name + "]"
			total += len(name) + len(env[name])
			switch {
			case name == "":
				p.add("environment_variables", "a variable has no name")
			case len(name) > MaxEnvName:
				p.add("environment_variables", "a name has %d bytes, the limit is %d", len(name), MaxEnvName)
			case strings.ContainsFunc(name, func(c rune) bool { return c == '=' || c <= ' ' || c > '~' }):
				p.add(at, "a name is of printable ASCII characters without spaces and without =")
			}
			p.cString(at, env[name])
		}
	}
	if total > MaxArgv {
		p.add("command", "command, arguments and environment have %d bytes together, the limit is %d", total, MaxArgv)
	}
}

// cString checks a string that the kernel ends at the first zero byte.
func (p *problems) cString(at, s string) {
	if len(s) > MaxArg {
		p.add(at, "%d bytes, the limit is %d", len(s), MaxArg)
	}
	if strings.IndexByte(s, 0) >= 0 {
		p.add(at, "contains a zero byte")
	}
}

func (p *problems) tags(tags []string) {
	if !p.count("tags", len(tags), MaxTags) {
		return
	}
	for i, t := range tags {
		switch {
		case t == "":
			p.add(index("tags", i), "is empty")
		case len(t) > MaxTag:
			p.add(index("tags", i), "%d bytes, the limit is %d", len(t), MaxTag)
		case !utf8.ValidString(t) || strings.ContainsFunc(t, unicode.IsControl):
			p.add(index("tags", i), "contains a control character")
		case slices.Contains(tags[:i], t):
			p.add(index("tags", i), "%q is given twice", t)
		}
	}
}

func (p *problems) ports(l *specpb.Launch) {
	ports := l.GetPorts()
	if !p.count("ports", len(ports), MaxPorts) || !p.count("network.exposed_ports", len(l.GetExposedPorts()), MaxPorts) {
		return
	}
	for i, port := range ports {
		at := index("ports", i)
		p.port(at+".container_port", port.GetContainerPort())
		switch port.GetProtocol() {
		case "", "TCP", "UDP", "SCTP":
		default:
			p.add(at+".protocol", "%s", tree.NoneOf(port.GetProtocol(), []string{"TCP", "UDP", "SCTP"}))
		}
		if name := port.GetName(); name != "" && !portName(name) {
			p.add(at+".name", "%q is not a port name: at most %d of a-z, 0-9 and -, with a letter", name, MaxPortName)
		}
		for _, other := range ports[:i] {
			if other.GetContainerPort() == port.GetContainerPort() && protocol(other) == protocol(port) {
				p.add(at, "port %d/%s is given twice", port.GetContainerPort(), protocol(port))
			}
			if port.GetName() != "" && other.GetName() == port.GetName() {
				p.add(at+".name", "%q is given twice", port.GetName())
			}
		}
	}
	for i, n := range l.GetExposedPorts() {
		at := index("network.exposed_ports", i)
		if !slices.ContainsFunc(ports, func(o *specpb.Port) bool { return o.GetContainerPort() == n }) {
			p.add(at, "%d is not one of ports: declare it there too", n)
		} else if slices.Contains(l.GetExposedPorts()[:i], n) {
			p.add(at, "%d is given twice", n)
		}
	}
}

func (p *problems) port(at string, n int32) {
	if n < 1 || n > 65535 {
		p.add(at, "%d is not between 1 and 65535", n)
	}
}

func protocol(p *specpb.Port) string {
	if p.GetProtocol() == "" {
		return "TCP"
	}
	return p.GetProtocol()
}

// portName reports whether Kubernetes takes the name for a port.
func portName(s string) bool {
	letter := false
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z':
			letter = true
		case c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return false
		}
	}
	return letter && len(s) <= MaxPortName
}

func (p *problems) files(files []*specpb.MountedFile) {
	if !p.count("mounted_files", len(files), MaxMountedFiles) {
		return
	}
	total := 0
	paths := make([]string, 0, len(files))
	for i, f := range files {
		total += len(f.GetContent())
		if why := badPath(f.GetPath()); why != "" {
			p.add(index("mounted_files", i)+".mount_path", "%s", why)
			continue
		}
		paths = append(paths, f.GetPath())
	}
	// Sorted, a file that is also the directory of another stands before it, if not next to it.
	slices.Sort(paths)
	for i, at := range paths {
		if i > 0 && paths[i-1] == at {
			p.add("mounted_files", "%q is given twice", at)
		}
		if j, _ := slices.BinarySearch(paths, at+"/"); j < len(paths) && strings.HasPrefix(paths[j], at+"/") {
			p.add("mounted_files", "%q is a file and the directory of %q", at, paths[j])
		}
	}
	if total > MaxMountedBytes {
		p.add("mounted_files", "%d bytes together, the limit is %d", total, MaxMountedBytes)
	}
}

func badPath(s string) string {
	switch {
	case s == "":
		return "is empty: give the full path of the file"
	case len(s) > MaxPath:
		return "is longer than " + strconv.Itoa(MaxPath) + " bytes"
	case s[0] != '/':
		return strconv.Quote(s) + " is not absolute"
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return strconv.Quote(s) + " contains a control character"
	case path.Clean(s) != s || s == "/":
		return strconv.Quote(s) + " is not the plain path of a file: no .., no . and no // in it, no / at its end"
	}
	return ""
}

func (p *problems) names(at string, names []string) {
	if !p.count(at, len(names), MaxNames) {
		return
	}
	for i, n := range names {
		switch {
		case n == "":
			p.add(index(at, i), "is empty")
		case len(n) > spec.MaxName:
			p.add(index(at, i), "%d bytes, the limit of a name is %d", len(n), spec.MaxName)
		case !utf8.ValidString(n) || strings.ContainsFunc(n, unicode.IsControl):
			p.add(index(at, i), "contains a control character")
		}
	}
}

func index(at string, i int) string { return at + "[" + strconv.Itoa(i) + "]" }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
