package bundle

import "github.com/opencontainers/runtime-spec/specs-go"

const (
	// CPUPeriodMicros is the period of the CPU quota, the kernel's default.
	CPUPeriodMicros = 100_000
	// MinCPUMillis is the smallest CPU limit: the kernel takes no quota below one millisecond per period.
	MinCPUMillis = 10
	// minShares and maxShares bound what the kernel takes.
	minShares, maxShares = 2, 262144
)

// resources returns the limits. They are given in the form of cgroup v1, which every runtime writes on v1 and converts for
// v2 with the formulas of the runtime specification.
func resources(l Limits, ownKernel bool) *specs.LinuxResources {
	r := &specs.LinuxResources{
		// Runtimes add the devices that every container has (null, zero, full, random, urandom, tty, ptmx); no other opens.
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}
	if l.PIDs > 0 {
		limit := l.PIDs
		if ownKernel {
			// What counts is the limit inside, per user. Here it is threads of gVisor, which dies without them: the last resort
			// against a sandbox that forks under many users.
			limit = ownKernelThreads(limit)
		}
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if l.CPUMillis > 0 || l.CPURequestMillis > 0 {
		r.CPU = cpu(l)
	}
	if l.MemoryBytes > 0 {
		limit := l.MemoryBytes
		r.Memory = &specs.LinuxMemory{Limit: &limit}
		if l.Swap {
			// Memory and swap together, so: no swap.
			r.Memory.Swap = &limit
		}
	}
	return r
}

// ownKernelThreads is how many threads of the machine gVisor may have for this many of a sandbox: one or two for each, and its own.
func ownKernelThreads(pids int64) int64 { return 2*pids + 512 }

func cpu(l Limits) *specs.LinuxCPU {
	c := &specs.LinuxCPU{}
	if l.CPUMillis > 0 {
		quota, period := CPUQuotaMicros(l.CPUMillis), uint64(CPUPeriodMicros)
		c.Quota, c.Period = &quota, &period
	}
	request := l.CPURequestMillis
	if request == 0 {
		// As in Kubernetes: who states a limit alone requests as much.
		request = l.CPUMillis
	}
	shares := CPUShares(request)
	c.Shares = &shares
	return c
}

// CPUQuotaMicros returns how long a sandbox with this limit may run in each period.
func CPUQuotaMicros(millis int64) int64 { return millis * CPUPeriodMicros / 1000 }

// CPUShares returns the cgroup v1 shares of a request.
func CPUShares(millis int64) uint64 {
	return uint64(min(max(millis*1024/1000, minShares), maxShares))
}
