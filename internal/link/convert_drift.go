package link

import (
	"cmp"
	"encoding/json"
	"slices"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
)

// DriftMessage returns what differs.
func DriftMessage(d *backend.Drift) *linkv1.DriftResponse {
	out := &linkv1.DriftResponse{Omitted: int32(min(d.Omitted, 1<<30))} //nolint:gosec // bounded
	for i := range d.Fields {
		f := &d.Fields[i]
		out.Fields = append(out.Fields, &linkv1.DriftField{
			Path: clip(f.Path, MaxText), Kind: f.Kind, Submitted: f.Submitted, Held: f.Held, Filled: f.Filled, By: clip(f.By, MaxText), At: Stamp(f.At),
		})
	}
	return out
}

// DriftOf is the reverse. What cannot be of an object is left out, and counted.
func DriftOf(m *linkv1.DriftResponse) *backend.Drift {
	out := &backend.Drift{Omitted: max(0, int(m.GetOmitted()))}
	kinds := []string{backend.DriftChanged, backend.DriftAdded, backend.DriftRemoved}
	for _, f := range m.GetFields() {
		if len(out.Fields) == backend.MaxDrift || !slices.Contains(kinds, f.GetKind()) || !isValue(f.Submitted) || !isValue(f.Held) {
			out.Omitted++
			continue
		}
		out.Fields = append(out.Fields, backend.DriftField{
			Path: clip(f.GetPath(), MaxText), Kind: f.GetKind(), Submitted: f.Submitted, Held: f.Held, Filled: f.GetFilled(), By: clip(f.GetBy(), MaxText), At: Time(f.GetAt()),
		})
	}
	slices.SortStableFunc(out.Fields, func(a, b backend.DriftField) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// isValue says whether it is no value, or one that can be shown.
func isValue(raw []byte) bool { return raw == nil || len(raw) <= MaxSubmitted && json.Valid(raw) }
