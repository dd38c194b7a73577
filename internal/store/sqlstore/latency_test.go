package sqlstore_test

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has used: beside other work on the machine it says more than the time that passed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// latencies runs fn for each iteration and reports the 99th percentile beside the mean.
func latencies(b *testing.B, fn func()) {
	b.Helper()
	all := make([]time.Duration, 0, 1<<16)
	before := cpuTime()
	for b.Loop() {
		start := time.Now()
		fn()
		if len(all) < cap(all) {
			all = append(all, time.Since(start))
		}
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
}
