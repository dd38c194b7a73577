package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits is what the kernel holds a group to. 0 is no limit, or no such controller.
type Limits struct {
	// CPUMillis is in thousandths of a CPU.
	CPUMillis, MemoryBytes, PIDs int64
}

// Limits reads what the kernel holds the group to.
func (g Group) Limits() Limits { return g.limits(Root) }

func (g Group) limits(root string) Limits {
	read := func(controller, v1, v2 string) []string {
		path := filepath.Join(root, controller, g.Path, v1)
		if g.Mode == V2 {
			path = filepath.Join(root, g.Path, v2)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return []string{"max"}
		}
		return strings.Fields(string(data))
	}
	quota := read("cpu", "cpu.cfs_quota_us", "cpu.max")
	period := quota[len(quota)-1]
	if g.Mode != V2 {
		period = read("cpu", "cpu.cfs_period_us", "")[0]
	}
	l := Limits{MemoryBytes: limit(read("memory", "memory.limit_in_bytes", "memory.max")), PIDs: limit(read("pids", "pids.max", "pids.max"))}
	if p := limit([]string{period}); p > 0 {
		l.CPUMillis = limit(quota) * 1000 / p
	}
	return l
}

// limit reads a number; what stands for none is 0.
func limit(words []string) int64 {
	if len(words) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || n < 0 || n >= unlimited {
		return 0
	}
	return n
}
