package place

import (
	"fmt"
	"strconv"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/spec"
)

// amount is one kind of resource that is counted.
type amount struct {
	// path is the field that decides how much is reserved.
	path, name string
	of         func(*core.Amounts) int64
	text       func(int64) string
}

func amounts() [4]amount {
	return [4]amount{
		{"resource_defaults.cpu_request", "CPU", func(a *core.Amounts) int64 { return a.CPUMillis }, spec.FormatCPU},
		{"resource_defaults.memory_request", "memory", func(a *core.Amounts) int64 { return a.MemoryBytes }, spec.FormatMemory},
		{"resource_defaults.gpu", "GPUs", func(a *core.Amounts) int64 { return a.GPUs }, count},
		{"", "sandboxes", func(a *core.Amounts) int64 { return a.Sandboxes }, count},
	}
}

// room compares with what may be reserved. A capacity of 0 is none at all; the store, which has the last word in the
// launch transaction, counts the same way.
func room(h *Host, reserve *core.Amounts) []Reason {
	if within(&h.Used, reserve, &h.Capacity) {
		return nil
	}
	var out []Reason
	for _, a := range amounts() {
		want, used, total := a.of(reserve), a.of(&h.Used), a.of(&h.Capacity)
		if want == 0 || want <= total-used {
			continue
		}
		r := Reason{Code: CodeCapacity, Path: a.path, Value: a.text(want), Limit: a.text(max(total-used, 0))}
		r.Message = fmt.Sprintf("%s: needs %s, %s of %s is free", a.name, r.Value, r.Limit, a.text(total))
		if want > total {
			r.Code, r.Limit = CodeTooLarge, a.text(total)
			r.Message = fmt.Sprintf("%s: needs %s, the whole runner has %s", a.name, r.Value, r.Limit)
		}
		out = append(out, r)
	}
	return out
}

// within is the fast path of room: nothing of it allocates.
func within(used, add, total *core.Amounts) bool {
	// Subtracting cannot overflow: capacity and use are not negative.
	fits := func(u, a, t int64) bool { return a == 0 || a <= t-u }
	return fits(used.CPUMillis, add.CPUMillis, total.CPUMillis) && fits(used.MemoryBytes, add.MemoryBytes, total.MemoryBytes) &&
		fits(used.GPUs, add.GPUs, total.GPUs) && fits(used.Sandboxes, add.Sandboxes, total.Sandboxes)
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
