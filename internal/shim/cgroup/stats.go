package cgroup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// unlimited is above any real limit; cgroup v1 writes a number near 2^63 for none.
const unlimited = 1 << 60

// Stats is what a group uses now.
type Stats struct {
	// MemoryBytes is in use now, without what the kernel keeps of files that nobody looked at for a while and gives up first;
	// MemoryPeak is the most so far, of everything, and MemoryLimit what may be used (0 is no limit).
	MemoryBytes int64 `json:"memory_bytes"`
	MemoryPeak  int64 `json:"memory_peak_bytes"`
	MemoryLimit int64 `json:"memory_limit_bytes"`
	// CPU is the time used so far.
	CPU time.Duration `json:"cpu_ns"`
	// PIDs is the number of tasks now.
	PIDs int64 `json:"pids"`
	// OOMKills counts what the kernel killed at the memory limit.
	OOMKills int64     `json:"oom_kills"`
	At       time.Time `json:"at"`
}

// Stats samples the group. What a host does not count (a controller that is missing, a peak on an old kernel) is 0; it
// fails only if the group's memory cannot be read.
func (g Group) Stats() (Stats, error) { return g.stats(Root) }

func (g Group) stats(root string) (Stats, error) {
	file := func(controller, name string) string {
		if g.Mode == V2 {
			return filepath.Join(root, g.Path, name)
		}
		return filepath.Join(root, controller, g.Path, name)
	}
	s := Stats{At: time.Now()}
	var err error
	if g.Mode == V2 {
		s.MemoryBytes, err = number(file("", "memory.current"))
		idle, _ := keyed(file("", "memory.stat"), "inactive_file")
		s.MemoryBytes = max(s.MemoryBytes-idle, 0)
		s.MemoryPeak, _ = number(file("", "memory.peak"))
		s.MemoryLimit, _ = number(file("", "memory.max"))
		cpu, _ := keyed(file("", "cpu.stat"), "usage_usec")
		s.CPU = time.Duration(cpu) * time.Microsecond
		s.PIDs, _ = number(file("", "pids.current"))
	} else {
		s.MemoryBytes, err = number(file("memory", "memory.usage_in_bytes"))
		idle, _ := keyed(file("memory", "memory.stat"), "total_inactive_file")
		s.MemoryBytes = max(s.MemoryBytes-idle, 0)
		s.MemoryPeak, _ = number(file("memory", "memory.max_usage_in_bytes"))
		s.MemoryLimit, _ = number(file("memory", "memory.limit_in_bytes"))
		cpu, _ := number(file("cpuacct", "cpuacct.usage"))
		s.CPU = time.Duration(cpu)
		s.PIDs, _ = number(file("pids", "pids.current"))
	}
	if s.MemoryLimit >= unlimited {
		s.MemoryLimit = 0
	}
	s.OOMKills, _ = g.oomKills(root)
	return s, err
}

// OOMKills returns how many processes of the group the kernel killed for want of memory.
func (g Group) OOMKills() (int64, error) { return g.oomKills(Root) }

func (g Group) oomKills(root string) (int64, error) {
	if g.Mode == V2 {
		return keyed(filepath.Join(root, g.Path, "memory.events"), "oom_kill")
	}
	return keyed(filepath.Join(root, "memory", g.Path, "memory.oom_control"), "oom_kill")
}

// number reads a file with one number; "max" is 0.
func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	return int64(min(n, 1<<62)), err
}

// keyed reads the number behind a key from a file with a key and a number on each line.
func keyed(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); ok && string(k) == key {
			return strconv.ParseInt(string(v), 10, 64)
		}
	}
	return 0, errors.New(path + " does not count " + key)
}
