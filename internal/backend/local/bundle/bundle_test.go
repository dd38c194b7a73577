package bundle

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the goldens")

func cases() map[string]*Input {
	return map[string]*Input{
		// The smallest: no limits but that of processes.
		"bare": {
			ID: "sbx-1", Root: "/run/berm/host/abc", ReadOnly: true, Init: "/run/berm/bin/berm-shim", Args: []string{"init", "--fd", "3"},
			Env: []string{"PATH=/usr/bin"}, IDBase: 0x70000000, CgroupsPath: "/berm/sbx-1", Limits: Limits{PIDs: 4096},
		},
		"limits": {
			ID: "sbx-2", Root: "/run/berm/host/abc", ReadOnly: true, Init: "/run/berm/bin/berm-shim", IDBase: 0x70010000, CgroupsPath: "/berm/sbx-2",
			Limits:  Limits{CPUMillis: 1500, CPURequestMillis: 250, MemoryBytes: 512 << 20, Swap: true, PIDs: 100, OpenFiles: 1024},
			Binds:   []Bind{{Source: "/usr", Target: "/usr", Dir: true, Exec: true}, {Source: "/x/hosts", Target: "/etc/hosts"}},
			Tmpfs:   []Tmpfs{Shm(), {Target: "/tmp", Mode: 0o1777, Bytes: 1 << 30, Exec: true}},
			Scratch: []Scratch{{Source: "/x/scratch/home", Target: "/home"}},
		},
		// Another user than root, over an image that can be written.
		"user": {
			ID: "sbx-3", Root: "/run/berm/box/sbx-3/root", Init: "/run/berm/bin/berm-shim", UID: 1000, GID: 100, Groups: []uint32{4, 24},
			IDBase: 0x70020000, CgroupsPath: "/berm/sbx-3", Limits: Limits{MemoryBytes: 64 << 20, PIDs: 4096},
		},
		// A runtime with a kernel of its own, whose init dials its shim.
		"gvisor": {
			ID: "sbx-4", Root: "/run/berm/box/sbx-4/plain", ReadOnly: true, Init: "/dev/berm/init", Args: []string{"init", "--dial", "/dev/berm/shim.sock"},
			Meet: "/run/berm/box/sbx-4/berm", OwnKernel: true, IDBase: 0x70030000, CgroupsPath: "/berm/sbx-4", Limits: Limits{MemoryBytes: 64 << 20, PIDs: 4096},
			Binds: []Bind{{Source: "/usr", Target: "/usr", Dir: true, Exec: true}},
		},
		// A network and a user namespace that were made before.
		"network": {
			ID: "sbx-5", Root: "/run/berm/host/abc", ReadOnly: true, Init: "/run/berm/bin/berm-shim", Users: "/run/berm/bundle/sbx-5/berm-users",
			Network: "/run/berm/net/1", IDBase: 0x70040000, CgroupsPath: "/berm/sbx-5", Limits: Limits{PIDs: 4096, OpenFiles: 1024},
		},
	}
}

// TestGoldens shows every change of what isolates a sandbox. The lists of system calls are left out here and checked below.
func TestGoldens(t *testing.T) {
	for name, in := range cases() {
		t.Run(name, func(t *testing.T) {
			spec := Spec(in)
			if name != "bare" && name != "gvisor" {
				spec.Linux.Seccomp = nil
			}
			got, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("run with -update if this is meant (-want +got):\n%s", cmp.Diff(string(want), string(got)))
			}
		})
	}
}

// TestAlways holds what no input may change.
func TestAlways(t *testing.T) {
	for name, in := range cases() {
		s := Spec(in)
		kinds := map[specs.LinuxNamespaceType]bool{}
		for _, n := range s.Linux.Namespaces {
			kinds[n.Type] = true
			if n.Path != "" && (n.Type != specs.UserNamespace || n.Path != in.Users) {
				t.Errorf("%s: joins the namespace %s", name, n.Path)
			}
		}
		for _, k := range []specs.LinuxNamespaceType{"user", "pid", "mount", "network", "ipc", "uts", "cgroup"} {
			// Without a network of its own it has that of its runtime, which is then not the machine's.
			if around := k == specs.NetworkNamespace && in.Around() != ""; kinds[k] == around {
				t.Errorf("%s: a %s namespace: %v", name, k, kinds[k])
			}
		}
		if m := s.Linux.UIDMappings; len(m) != 1 || m[0].ContainerID != 0 || m[0].HostID != in.IDBase || m[0].Size != IDsPerSandbox {
			t.Errorf("%s: user ids %+v", name, m)
		}
		if !s.Process.NoNewPrivileges || s.Linux.Seccomp == nil || s.Process.Terminal {
			t.Errorf("%s: no-new-privileges %v, a filter %v, terminal %v", name, s.Process.NoNewPrivileges, s.Linux.Seccomp != nil, s.Process.Terminal)
		}
		if s.Process.OOMScoreAdj == nil || *s.Process.OOMScoreAdj < 0 {
			t.Errorf("%s: oom_score_adj %v; a machine without CAP_SYS_RESOURCE cannot lower it", name, s.Process.OOMScoreAdj)
		}
		for _, c := range s.Process.Capabilities.Bounding {
			if slices.Contains([]string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_MODULE", "CAP_BPF", "CAP_MKNOD"}, c) {
				t.Errorf("%s: has %s", name, c)
			}
		}
		if in.UID != 0 && len(s.Process.Capabilities.Bounding) > 0 {
			t.Errorf("%s: user %d has capabilities", name, in.UID)
		}
		for _, m := range s.Mounts {
			if m.Type == "sysfs" || m.Type == "cgroup" || m.Type == "cgroup2" {
				t.Errorf("%s: mounts %s", name, m.Type)
			}
			own := slices.Contains(in.Scratch, Scratch{Source: m.Source, Target: m.Destination})
			if m.Type == "bind" && !slices.Contains(m.Options, "ro") && !own {
				t.Errorf("%s: %s of the machine can be written", name, m.Source)
			}
			if m.Type != "proc" && !slices.Contains(m.Options, "nosuid") {
				t.Errorf("%s: %s without nosuid", name, m.Destination)
			}
		}
	}
}

// TestSeccompLists: a call is in one list, and the dangerous ones are in none that allows.
func TestSeccompLists(t *testing.T) {
	seen := map[string]string{}
	for name, list := range map[string][]string{
		"file": fileCalls(), "memory": memoryCalls(), "process": processCalls(), "time": timeCalls(), "socket": socketCalls(), "wait": waitCalls(),
		"ipc": ipcCalls(), "refused": refused(), "by argument": {"clone", "socket", "personality", "prlimit64"},
	} {
		for _, call := range list {
			if other, twice := seen[call]; twice {
				t.Errorf("%s is in %s and in %s", call, name, other)
			}
			seen[call] = name
		}
		if name != "by argument" && name != "refused" && !slices.IsSortedFunc(list, func(a, b string) int {
			return strings.Compare(strings.TrimPrefix(a, "_"), strings.TrimPrefix(b, "_"))
		}) {
			t.Errorf("%s is not sorted", name)
		}
	}
	for _, call := range []string{
		"keyctl", "bpf", "userfaultfd", "perf_event_open", "mount", "kexec_load", "io_uring_setup", "unshare", "setns", "init_module", "clone3",
		"open_by_handle_at", "reboot", "swapon", "pivot_root", "move_mount", "fsopen", "syslog", "quotactl", "acct", "iopl",
	} {
		if slices.Contains(allowed(), call) {
			t.Errorf("%s is allowed", call)
		}
	}
	s := seccomp(false)
	if s.DefaultAction != specs.ActErrno {
		t.Errorf("default action %s", s.DefaultAction)
	}
	for _, rule := range s.Syscalls {
		if slices.Contains(rule.Names, "clone") && (len(rule.Args) != 1 || rule.Args[0].Value != 0x7e020000 || rule.Args[0].ValueTwo != 0 || rule.Args[0].Op != specs.OpMaskedEqual) {
			t.Errorf("clone may make namespaces: %+v", rule)
		}
	}
}

func TestCPU(t *testing.T) {
	for _, c := range []struct {
		millis, quota int64
		shares        uint64
	}{{10, 1000, 10}, {1, 100, 2}, {100, 10_000, 102}, {1000, 100_000, 1024}, {2500, 250_000, 2560}, {1_000_000, 100_000_000, 262144}} {
		if got := CPUQuotaMicros(c.millis); got != c.quota {
			t.Errorf("quota of %dm: %d, want %d", c.millis, got, c.quota)
		}
		if got := CPUShares(c.millis); got != c.shares {
			t.Errorf("shares of %dm: %d, want %d", c.millis, got, c.shares)
		}
	}
	if r := resources(Limits{CPUMillis: 2000, PIDs: 1}, false); *r.CPU.Shares != 2048 {
		t.Errorf("a limit alone is also the request: shares %d", *r.CPU.Shares)
	}
	if r := resources(Limits{CPURequestMillis: 500, PIDs: 1}, false); r.CPU.Quota != nil || *r.CPU.Shares != 512 {
		t.Errorf("a request alone is no limit: %+v", r.CPU)
	}
	if r := resources(Limits{MemoryBytes: 1 << 20, PIDs: 1}, false); r.Memory.Swap != nil {
		t.Error("swap is limited on a machine that does not account for it")
	}
}

func BenchmarkSpec(b *testing.B) {
	in := cases()["limits"]
	for b.Loop() {
		if _, err := json.Marshal(Spec(in)); err != nil {
			b.Fatal(err)
		}
	}
}
