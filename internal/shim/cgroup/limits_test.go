package cgroup

import "testing"

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		mode  Mode
		files map[string]string
		want  Limits
	}{
		{V1, map[string]string{
			"cpu/a/b/cpu.cfs_quota_us": "150000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n", "memory/a/b/memory.limit_in_bytes": "4096\n", "pids/a/b/pids.max": "7\n",
		}, Limits{1500, 4096, 7}},
		{Hybrid, map[string]string{
			"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n", "memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "pids/a/b/pids.max": "max\n",
		}, Limits{}},
		{V2, map[string]string{"a/b/cpu.max": "50000 100000\n", "a/b/memory.max": "4096\n", "a/b/pids.max": "7\n"}, Limits{500, 4096, 7}},
		{V2, map[string]string{"a/b/cpu.max": "max 100000\n", "a/b/memory.max": "max\n", "a/b/pids.max": "max\n"}, Limits{}},
		{V2, map[string]string{"a/b/": ""}, Limits{}},
		{V1, map[string]string{"cpu/": ""}, Limits{}},
	} {
		if got := (Group{Mode: tt.mode, Path: "/a/b", Base: "/a"}).limits(tree(t, tt.files)); got != tt.want {
			t.Errorf("%+v: %+v", tt, got)
		}
	}
}
