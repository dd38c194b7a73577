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
	// text is exact, say is for people.
	text, say func(int64) string
}

func amounts() [4]amount {
	return [4]amount{
		{"resource_defaults.cpu_request", "CPU", func(a *core.Amounts) int64 { return a.CPUMillis }, spec.FormatCPU, spec.FormatCPU},
		{"resource_defaults.memory_request", "memory", func(a *core.Amounts) int64 { return a.MemoryBytes }, spec.FormatMemory, spec.RoundMemory},
		{"resource_defaults.gpu", "GPUs", func(a *core.Amounts) int64 { return a.GPUs }, count, count},
		{"", "sandboxes", func(a *core.Amounts) int64 { return a.Sandboxes }, count, count},
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
		limit := max(total-used, 0)
		if want > total {
			limit = total
		}
		r := Reason{Code: CodeCapacity, Path: a.path, Value: a.text(want), Limit: a.text(limit)}
		// Value and Limit are exact; people read rounded amounts, as long as these tell the two apart.
		say := a.say
		if say(want) == say(limit) {
			say = a.text
		}
		r.Message = fmt.Sprintf("%s: needs %s, %s of %s is free", a.name, say(want), say(limit), a.say(total))
		if want > total {
			r.Code = CodeTooLarge
			r.Message = fmt.Sprintf("%s: needs %s, the whole runner has %s", a.name, say(want), say(limit))
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
