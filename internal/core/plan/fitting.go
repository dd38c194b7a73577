package plan

import (
	"slices"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/spec"
)

// suggestedMemory is what suggested amounts of memory are rounded down to, in bytes: nobody types the exact size of a machine.
const suggestedMemory = 1 << 20

func hasTooLarge(reasons []Reason) bool {
	return slices.ContainsFunc(reasons, func(r Reason) bool { return r.Code == place.CodeTooLarge })
}

// lacksRoom reports whether some amount is more than is free.
func lacksRoom(reasons []Reason) bool {
	return slices.ContainsFunc(reasons, func(r Reason) bool { return place.OnlyCapacity([]Reason{r}) })
}

// fitting returns l with the amounts for which there is no room lowered to what is free there now, so that the result can be
// admitted on this snapshot. nil when there is room for all of them or nothing is free.
func fitting(l *specpb.Launch, a *attempt, h *place.Host) *specpb.Launch {
	var out *specpb.Launch
	for _, r := range a.reasons {
		if r.Code != place.CodeTooLarge && r.Code != place.CodeCapacity {
			continue
		}
		if out == nil {
			out = proto.CloneOf(l)
		}
		ok := false
		switch set := fields(); r.Path {
		case set.cpuRequest.Path:
			ok = reserve(out, h.Capacity.CPUMillis-h.Used.CPUMillis, spec.FormatCPU, spec.ParseCPU,
				func(r *specpb.ResourceAmounts) *string { return &r.Cpu })
		case set.memoryRequest.Path:
			free := h.Capacity.MemoryBytes - h.Used.MemoryBytes
			ok = reserve(out, free-free%suggestedMemory, spec.FormatMemory, spec.ParseMemory,
				func(r *specpb.ResourceAmounts) *string { return &r.Memory })
		case pathGPU:
			launch.Remove(out, launch.RequestPath(pathGPU))
			ok = h.Capacity.GPUs == 0 // a smaller number of GPUs is another program: not suggested
		}
		if !ok {
			return nil
		}
	}
	return out
}

const pathGPU = "resource_defaults.gpu"

// reserve lowers what l reserves of one resource to free. A limit may be larger than what is reserved, so it stays.
func reserve(
	l *specpb.Launch, free int64, format func(int64) string, parse func(string) (int64, error), at func(*specpb.ResourceAmounts) *string,
) bool {
	if free <= 0 {
		return false
	}
	if l.ResourceRequests == nil {
		l.ResourceRequests = &specpb.ResourceAmounts{}
	}
	asked := at(l.ResourceRequests)
	if have, err := parse(*asked); err == nil && have <= free {
		return true // a repair has brought it down already
	}
	*asked = format(free)
	return true
}
