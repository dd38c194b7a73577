package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/oci"
)

// TestParseRuntime: what an operator can say of a runtime, and what is told of mistakes.
func TestParseRuntime(t *testing.T) {
	for text, want := range map[string]ociRuntime{
		"crun":                               {name: "crun", path: "crun", kind: oci.Crun},
		"/opt/bin/runsc":                     {name: "runsc", path: "/opt/bin/runsc", kind: oci.Runsc},
		"gvisor=runsc":                       {name: "gvisor", path: "runsc", kind: oci.Runsc},
		"youki=/opt/youki":                   {name: "youki", path: "/opt/youki", kind: oci.Runc},
		"g=/x,kind=runsc,flag=--p=s,flag=-d": {name: "g", path: "/x", kind: oci.Runsc, flags: []string{"--p=s", "-d"}},
	} {
		got, err := parseRuntime(text)
		if err != nil || got.name != want.name || got.path != want.path || got.kind != want.kind || !slices.Equal(got.flags, want.flags) {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=x", "a=", "a=./x", "a=/x,kind=docker", "a=/x,flag=x", "a=/x,color=red", "A b=/x", "a=/x,"} {
		if rt, err := parseRuntime(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %+v %v", text, rt, err)
		}
	}
	if err := ParseRuntimes([]string{"crun", "crun=/x"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("one name twice: %v", err)
	}
	if err := ParseRuntimes(make([]string, MaxRuntimes+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many: %v", err)
	}
}

// lax is a runtime that changes what it is told, by a command of sed, and says nothing of it.
const lax = `#!/bin/sh
previous=
for a; do
  [ "$previous" = --bundle ] && sed -i '%s' "$a/config.json"
  previous=$a
done
exec %s "$@"
`

// What lax runtimes leave out: the memory limit, the user namespace that was made for the sandbox.
const (
	noMemoryLimit  = `s/"memory":{[^}]*},*//`
	otherNamespace = `s/{"type":"user",[^}]*}/{"type":"user"}/`
)

// TestConfiguredRuntimes: runtimes under names of their own, one of which does not do what it is told: what was seen of each is
// published, and what one does not enforce is refused there and nowhere else.
func TestConfiguredRuntimes(t *testing.T) {
	crun, err := exec.LookPath("crun")
	if err != nil {
		t.Fatal(err)
	}
	script, own := filepath.Join(t.TempDir(), "crun-lax"), filepath.Join(t.TempDir(), "crun-own")
	for path, change := range map[string]string{script: noMemoryLimit, own: otherNamespace} {
		if err := os.WriteFile(path, fmt.Appendf(nil, lax, change, crun), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	deaf := filepath.Join(t.TempDir(), "runsc-deaf")
	if err := os.WriteFile(deaf, []byte("#!/bin/sh\ncase \"$*\" in *--network=sandbox*) echo no network >&2; exit 1;; esac\nexec runsc \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := open(t, func(c *Config) {
		c.Runtimes = []string{"mine=" + crun + ",flag=--debug", "lax=" + script, "runsc", "deaf=" + deaf + ",kind=runsc", "own=" + own, "nothing=/bin/true", "absent=/nowhere"}
	})
	info := b.Info()
	if want := []string{"mine", "lax", "runsc", "deaf"}; !slices.Equal(info.RuntimeClasses, want) || len(info.Runtimes) != 4 {
		t.Fatalf("%q %+v", info.RuntimeClasses, info.Runtimes)
	}
	holds := func(class, name string) bool {
		i := slices.IndexFunc(info.Of(class).Enforcement, func(e backend.Enforcement) bool { return e.Name == name })
		return i >= 0 && info.Of(class).Enforcement[i].Works
	}
	for _, class := range info.RuntimeClasses {
		for _, name := range []string{"cpu", "pids", "seccomp", "user-namespace", "egress:none", "pause"} {
			if !holds(class, name) {
				t.Errorf("%s: %s does not hold: %+v", class, name, info.Of(class))
			}
		}
		if holds(class, "memory") != (class != "lax") {
			t.Errorf("%s: memory: %+v", class, info.Of(class))
		}
		for _, e := range info.Of(class).Enforcement {
			if !e.Works && e.Note == "" {
				t.Errorf("%s: %s is refused without a reason", class, e.Name)
			}
		}
	}
	if own := info.Of("runsc").Isolation; own == info.Of("mine").Isolation || !strings.Contains(own, "kernel of its own") || info.Isolation != info.Of("").Isolation {
		t.Errorf("isolation: %q", own)
	}
	w := work()
	w.Spec.RuntimeClass, w.Spec.Network = proto.String("deaf"), networked("internet")
	if f := fault.From(b.Check(w)).Fields; len(f) != 1 || f[0].Path != "network.egress.selected" || holds("deaf", featureNetwork) || !holds("runsc", featureNetwork) {
		t.Errorf("a network under a runtime that takes none over: %+v", f)
	}
	w.Spec.RuntimeClass = proto.String("runsc")
	if err := b.Check(w); err != nil {
		t.Errorf("a network under gVisor: %v", err)
	}
	w = work()
	w.Spec.RuntimeClass = proto.String("lax")
	if f := fault.From(b.Check(w)).Fields; len(f) != 1 || f[0].Path != "resource_defaults.memory_limit" {
		t.Errorf("a memory limit that does not hold: %+v", f)
	}
	for _, class := range []string{"own", "nothing", "absent"} {
		w.Spec.RuntimeClass = proto.String(class)
		if err := b.Check(w); !fault.HasReason(err, fault.ReasonRuntimeNotFound) {
			t.Errorf("%s: %v", class, err)
		}
	}
	if why := b.machine.lacks["runtime:own"]; !strings.Contains(why, "not in the user namespace that was made for it") {
		t.Errorf("a runtime that makes another user namespace: %q", why)
	}
	w.Spec.RuntimeClass, w.Spec.ResourceDefaults.MemoryLimit = proto.String("lax"), nil
	if r := b.exec(b.launch(w), "echo", "hi"); r.out != "hi\n" {
		t.Errorf("%+v", r)
	}
}
