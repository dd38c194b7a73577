package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree makes files below a directory; a name that ends with a slash is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		dir := p
		if name[len(name)-1] != '/' {
			dir = filepath.Dir(p)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != p {
			if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		files map[string]string
		want  Mode
	}{
		{map[string]string{"cgroup.controllers": "cpu memory\n"}, V2},
		{map[string]string{"memory/x": "", "cpu/": ""}, V1},
		{map[string]string{"memory/x": "", "unified/cgroup.controllers": ""}, Hybrid},
		{map[string]string{"systemd/": ""}, ""},
	} {
		if got, err := detect(tree(t, tt.files)); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%v: %q, %v", tt.files, got, err)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Group{Mode: V1, Path: "/berm/a", Base: "/berm"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Group{
		{Mode: "v3", Path: "/berm/a", Base: "/berm"}, {Mode: V1, Path: "berm/a", Base: "/berm"}, {Mode: V1, Path: "/", Base: "/"},
		{Mode: V1, Path: "/berm", Base: "/berm"}, {Mode: V1, Path: "/bermuda", Base: "/berm"}, {Mode: V1, Path: "/berm/../x", Base: "/berm"},
		{Mode: V1, Path: "/berm/a/", Base: "/berm"}, {Mode: V1, Path: "/berm/a", Base: ""}, {Mode: V1, Path: "/a//b", Base: "/a"},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

func TestStats(t *testing.T) {
	v2 := tree(t, map[string]string{
		"a/b/memory.current": "2048576\n", "a/b/memory.stat": "anon 5\ninactive_file 1000000\n", "a/b/memory.peak": "2097152\n", "a/b/memory.max": "max\n", "a/b/pids.current": "7\n",
		"a/b/cpu.stat": "usage_usec 1500\nuser_usec 1000\n", "a/b/memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n",
	})
	v1 := tree(t, map[string]string{
		"memory/a/b/memory.usage_in_bytes": "2048576\n", "memory/a/b/memory.stat": "inactive_file 7\ntotal_inactive_file 1000000\n", "memory/a/b/memory.max_usage_in_bytes": "2097152\n",
		"memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "pids/a/b/pids.current": "7\n", "cpuacct/a/b/cpuacct.usage": "1500000\n",
		"memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
	})
	want := Stats{MemoryBytes: 1 << 20, MemoryPeak: 2 << 20, CPU: 1500 * time.Microsecond, PIDs: 7, OOMKills: 1}
	for mode, root := range map[Mode]string{V2: v2, V1: v1, Hybrid: v1} {
		g := Group{Mode: mode, Path: "/a/b", Base: "/"}
		got, err := g.stats(root)
		got.At = time.Time{}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", mode, got, err)
		}
		if _, err := (Group{Mode: mode, Path: "/none", Base: "/"}).stats(root); err == nil {
			t.Errorf("%s: a group that is not there has statistics", mode)
		}
		if _, err := (Group{Mode: mode, Path: "/none", Base: "/"}).oomKills(root); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: oom kills of a group that is not there: %v", mode, err)
		}
	}
}

func TestRemove(t *testing.T) {
	for _, mode := range []Mode{V1, V2} {
		prefix := ""
		if mode == V1 {
			prefix = "memory/"
		}
		root := tree(t, map[string]string{
			prefix + "base/between/id/inner/deep/": "", prefix + "base/other/": "", prefix + "base/shared/x/": "", prefix + "base/shared/y/": "",
		})
		for _, p := range []string{"/base/between/id", "/base/shared/x", "/base/none/at/all", "/base/between/id"} {
			if err := (Group{Mode: mode, Path: p, Base: "/base"}).remove(context.Background(), root); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
		left, err := filepath.Glob(filepath.Join(root, prefix, "base/*"))
		if err != nil || len(left) != 2 || filepath.Base(left[0]) != "other" || filepath.Base(left[1]) != "shared" {
			t.Errorf("%s: left %v", mode, left)
		}
		if _, err := os.Stat(filepath.Join(root, prefix, "base/shared/y")); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestLiftCPU(t *testing.T) {
	for _, tt := range []struct {
		mode             Mode
		file, had, lifts string
	}{
		{V1, "cpu/berm/a/cpu.cfs_quota_us", "50000", "-1"},
		{Hybrid, "cpu/berm/a/cpu.cfs_quota_us", "-1", "-1"},
		{V2, "berm/a/cpu.max", "50000 100000", "max"},
		{V2, "berm/a/memory.max", "", ""}, // a group without the controller
	} {
		root := tree(t, map[string]string{tt.file: tt.had + "\n"})
		content := func() string {
			b, err := os.ReadFile(filepath.Join(root, tt.file))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		g := Group{Mode: tt.mode, Path: "/berm/a", Base: "/berm"}
		putBack, err := g.liftCPU(root)
		if err != nil || content() != tt.lifts {
			t.Errorf("%+v: lifted to %q, %v", tt, content(), err)
		}
		if err := putBack(); err != nil || content() != tt.had {
			t.Errorf("%+v: put back to %q, %v", tt, content(), err)
		}
		if err := os.RemoveAll(filepath.Join(root, tt.file)); err != nil {
			t.Fatal(err)
		}
		if err := putBack(); err != nil {
			t.Errorf("%+v: put back in a group that is gone: %v", tt, err)
		}
	}
}
