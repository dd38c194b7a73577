package spec_test

import (
	"testing"

	"github.com/bermhq/berm/internal/core/spec"
)

func TestParseQuantity(t *testing.T) {
	for _, c := range []struct {
		text   string
		cpu    int64
		cpuErr string
		memory int64
		memErr string
	}{
		{text: "0"},
		{text: "2", cpu: 2000, memory: 2},
		{text: "2.50", cpu: 2500, memErr: `"2.50" is no whole number of bytes`},
		{text: "500m", cpu: 500, memErr: `"500m" is a fraction of a byte (m means thousandths); did you mean "500Mi"?`},
		{text: "1000m", cpu: 1000, memory: 1},
		{text: "1e3", cpu: 1_000_000, memory: 1000},
		{text: "1k", cpu: 1_000_000, memory: 1000},
		{text: "10k", cpu: spec.MaxCPUMillis, memory: 10_000},
		{text: "10001", cpuErr: `"10001" is above the largest CPU amount allowed, 10000`, memory: 10_001},
		{text: "1Ki", cpu: 1_024_000, memory: 1024},
		{text: "1.5Gi", cpuErr: `"1.5Gi" is above the largest CPU amount allowed, 10000`, memory: 3 << 29},
		{text: "1Pi", cpuErr: `"1Pi" is above the largest CPU amount allowed, 10000`, memory: spec.MaxMemoryBytes},
		{
			text: "2Pi", cpuErr: `"2Pi" is above the largest CPU amount allowed, 10000`,
			memErr: `"2Pi" is above the largest amount of memory allowed, 1Pi`,
		},
		{text: "1u", cpuErr: `"1u" is finer than a thousandth of a CPU; did you mean "1m"?`, memErr: `"1u" is no whole number of bytes`},
		{
			text: "1.0000000000000001", cpuErr: `"1.0000000000000001" is finer than a thousandth of a CPU; did you mean "1001m"?`,
			memErr: `"1.0000000000000001" is no whole number of bytes`,
		},
		{text: "1e100", cpuErr: `"1e100" is not a sensible quantity`, memErr: `"1e100" is not a sensible quantity`},
		{text: "-1", cpuErr: `"-1" is negative`, memErr: `"-1" is negative`},
		{text: "1e999999999", cpuErr: `"1e999999999" is not a sensible quantity`, memErr: `"1e999999999" is not a sensible quantity`},
		{
			text: "9999999999999999999999999999999999", cpuErr: `"9999999999999999999999999999999999" is not a sensible quantity`,
			memErr: `"9999999999999999999999999999999999" is not a sensible quantity`,
		},
		{
			text: "4GB", cpuErr: `"4GB" is not a quantity; give CPUs such as "2" or "2.5", or thousandths of one such as "500m"`,
			memErr: `"4GB" is not a quantity; did you mean "4Gi"?`,
		},
		{
			text: "2 cores", cpuErr: `"2 cores" is not a quantity; did you mean "2"?`,
			memErr: `"2 cores" is not a quantity; give bytes, with a suffix such as in "512Mi" or "4Gi"`,
		},
		{
			text:   "",
			cpuErr: "is empty; leave the field out to inherit, or give null to clear it",
			memErr: "is empty; leave the field out to inherit, or give null to clear it",
		},
	} {
		got := func(amount int64, err error, want int64, wantErr string) {
			t.Helper()
			text := ""
			if err != nil {
				text = err.Error()
			}
			if amount != want || text != wantErr {
				t.Errorf("%q: %d %q, want %d %q", c.text, amount, text, want, wantErr)
			}
		}
		cpu, err := spec.ParseCPU(c.text)
		got(cpu, err, c.cpu, c.cpuErr)
		memory, err := spec.ParseMemory(c.text)
		got(memory, err, c.memory, c.memErr)
	}
}

func TestFormatQuantity(t *testing.T) {
	for millis, want := range map[int64]string{0: "0", 1: "1m", 500: "500m", 1000: "1", 2500: "2500m", spec.MaxCPUMillis: "10000"} {
		got := spec.FormatCPU(millis)
		if back, err := spec.ParseCPU(got); got != want || err != nil || back != millis {
			t.Errorf("%d: %s, want %s, reads as %d, %v", millis, got, want, back, err)
		}
	}
	for bytes, want := range map[int64]string{0: "0", 1: "1", 1024: "1Ki", 1000: "1000", 3 << 29: "1536Mi", 1 << 50: "1Pi"} {
		got := spec.FormatMemory(bytes)
		if back, err := spec.ParseMemory(got); got != want || err != nil || back != bytes {
			t.Errorf("%d: %s, want %s, reads as %d, %v", bytes, got, want, back, err)
		}
	}
}

func TestRoundMemory(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0", 512: "512", 64 << 30: "64Gi", 1536 << 20: "1536Mi", 22748859188: "21.1Gi", 1<<30 - 1: "1023.9Mi", 99999: "99999", 123456: "120.5Ki",
		spec.MaxMemoryBytes: spec.FormatMemory(spec.MaxMemoryBytes), 1<<63 - 1: "8191.9Pi",
	} {
		if got := spec.RoundMemory(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
