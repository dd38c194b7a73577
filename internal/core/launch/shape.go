package launch

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
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
	// MaxLeaseID is the longest id of a lease, in bytes.
	MaxLeaseID = 128
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
	p.secrets(l)
	if s := l.GetMaxLifetimeSeconds(); s < 0 || s > MaxLifetimeSeconds {
		p.add("max_lifetime_seconds", "%d is not between 0 and %d (30 days); 0 asks for the profile's default", s, MaxLifetimeSeconds)
	}
	p.note("lease_id", l.GetLeaseId(), MaxLeaseID)
	p.note("purpose", l.GetPurpose(), core.MaxPurpose)
	p.names("profile_names", l.GetProfileNames())
	p.names("profile_ids", l.GetProfileIds())
	p.names("runner_ids", l.GetRunnerIds())
}

// note checks a text that people or this server read.
func (p *problems) note(at, text string, most int) {
	switch {
	case len(text) > most:
		p.add(at, "has %d bytes, the limit is %d", len(text), most)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		p.add(at, "has a control character, such as a line break")
	}
}

func (p *problems) count(at string, n, most int) bool {
	if n > most {
		p.add(at, "%d entries, the limit is %d", n, most)
	}
	return n <= most
}

// argv checks what the main process is started with.
func (p *problems) argv(l *specpb.Launch) {
	if l.GetIdle() && (l.GetCommand() != "" || len(l.GetArgs()) > 0) {
		p.add("idle", "a sandbox that idles has no main process: leave out idle, or command and args")
	}
	p.cString("command", l.GetCommand())
	if p.count("args", len(l.GetArgs()), MaxArgs) {
		for i, a := range l.GetArgs() {
			p.cString(index("args", i), a)
		}
	}
	env := l.GetEnvironmentVariables()
	if p.count("environment_variables", len(env), MaxEnv) {
		for _, name := range sorted(env) {
			at := "environment_variables[" + name + "]"
			if why := badVariable(name); why != "" {
				if name == "" || len(name) > MaxEnvName {
					at = "environment_variables"
				}
				p.add(at, "%s", why)
			}
			p.cString(at, env[name])
		}
	}
	if total := ArgvBytes(l); total > MaxArgv {
		p.add("command", "command, arguments and environment have %d bytes together, the limit is %d", total, MaxArgv)
	}
}

// ArgvBytes is how much command, arguments and environment of a request are together, in bytes.
func ArgvBytes(l *specpb.Launch) int {
	total := len(l.GetCommand())
	for _, a := range l.GetArgs() {
		total += len(a)
	}
	for name, value := range l.GetEnvironmentVariables() {
		total += len(name) + len(value)
	}
	return total
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
