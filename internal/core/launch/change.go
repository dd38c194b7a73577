package launch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Change is one changed field of a request: the smallest thing that can be undone by itself.
type Change struct {
	// Path is the request's own name of the field, snake_case: "resource_limits.cpu", "pod_annotations[team]".
	Path string `json:"path"`
	// From and To are JSON values, nil when the field is absent. The contents of a mounted file are given as their size.
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// Diff returns the single changes that make a into b, in a fixed order. Fields that no suggestion ever changes (command,
// environment, tags and the like) are not compared.
func Diff(a, b *specpb.Launch) []Change {
	var out []Change
	for _, u := range units(a, b) {
		from, to := u.text(a), u.text(b)
		if !bytes.Equal(from, to) || u.same != nil && !u.same(a, b) {
			out = append(out, Change{Path: u.path, From: from, To: to})
		}
	}
	return out
}

// Undo returns changed with the field at path as it was in original. Neither is modified. An unknown path undoes nothing.
func Undo(changed, original *specpb.Launch, path string) *specpb.Launch {
	out := proto.CloneOf(changed)
	for _, u := range units(original, changed) {
		if u.path == path {
			u.copy(out, original)
		}
	}
	return out
}

// portKey identifies a port: "8080/TCP".
func portKey(p *specpb.Port) string {
	return strconv.Itoa(int(p.GetContainerPort())) + "/" + protocol(p)
}

func keys(a, b *specpb.Launch, of func(*specpb.Launch) map[string]string) []string {
	all := maps.Clone(of(a))
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, of(b))
	return sorted(all)
}

func ports(a, b *specpb.Launch) []string {
	var out []string
	for _, p := range slices.Concat(a.GetPorts(), b.GetPorts()) {
		out = append(out, portKey(p))
	}
	return unique(out)
}

func paths(a, b *specpb.Launch) []string {
	var out []string
	for _, f := range slices.Concat(a.GetMountedFiles(), b.GetMountedFiles()) {
		out = append(out, f.GetPath())
	}
	return unique(out)
}

func unique[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

// Remove takes the field at a request path, or everything below it, out of l.
func Remove(l *specpb.Launch, path string) {
	empty := &specpb.Launch{}
	for _, u := range units(l, empty) {
		if _, ok := below(u.path, path); ok {
			u.copy(l, empty)
		}
	}
	if path == "resource_limits.gpu" && l.GetResourceRequests().GetGpu() != nil {
		// The two halves name one amount.
		l.ResourceRequests.Gpu = nil
		tidy(&l.ResourceRequests)
	}
}
