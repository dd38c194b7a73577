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

// unit is one part of a request that can be changed by itself.
type unit struct {
	path string
	// text is the part as JSON, nil when absent; copy makes dst's part that of src.
	text func(l *specpb.Launch) []byte
	copy func(dst, src *specpb.Launch)
	// same, when not nil, compares more than text shows.
	same func(a, b *specpb.Launch) bool
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

// units returns the parts that a or b has: the fixed ones, then one for each entry of a list or map.
func units(a, b *specpb.Launch) []unit {
	all := fixedUnits()
	for _, key := range keys(a, b, (*specpb.Launch).GetPodAnnotations) {
		all = append(all, annotationUnit(key))
	}
	for _, port := range ports(a, b) {
		all = append(all, portUnit(port))
	}
	for _, path := range paths(a, b) {
		all = append(all, fileUnit(path))
	}
	return all
}

func fixedUnits() []unit {
	all := []unit{
		stringUnit("container_image", func(l *specpb.Launch) *string { return &l.ContainerImage }),
		stringUnit("network.egress_mode", func(l *specpb.Launch) *string { return &l.EgressMode }),
		stringUnit("network.ingress_mode", func(l *specpb.Launch) *string { return &l.IngressMode }),
		{
			path: "network.exposed_ports",
			text: func(l *specpb.Launch) []byte { return listText(l.GetExposedPorts()) },
			copy: func(dst, src *specpb.Launch) { dst.ExposedPorts = slices.Clone(src.GetExposedPorts()) },
		},
		{
			path: "max_lifetime_seconds",
			text: func(l *specpb.Launch) []byte {
				if l.GetMaxLifetimeSeconds() == 0 {
					return nil
				}
				return strconv.AppendInt(nil, int64(l.GetMaxLifetimeSeconds()), 10)
			},
			copy: func(dst, src *specpb.Launch) { dst.MaxLifetimeSeconds = src.GetMaxLifetimeSeconds() },
		},
		{
			path: "profile_names",
			text: func(l *specpb.Launch) []byte { return listText(l.GetProfileNames()) },
			copy: func(dst, src *specpb.Launch) { dst.ProfileNames = slices.Clone(src.GetProfileNames()) },
		},
	}
	all = append(all, amountUnits("resource_requests", func(l *specpb.Launch) **specpb.ResourceAmounts { return &l.ResourceRequests })...)
	return append(all, amountUnits("resource_limits", func(l *specpb.Launch) **specpb.ResourceAmounts { return &l.ResourceLimits })...)
}

func stringUnit(path string, at func(*specpb.Launch) *string) unit {
	return unit{
		path: path,
		text: func(l *specpb.Launch) []byte { return stringText(*at(l)) },
		copy: func(dst, src *specpb.Launch) { *at(dst) = *at(src) },
	}
}

func amountUnits(name string, at func(*specpb.Launch) **specpb.ResourceAmounts) []unit {
	// of returns the amounts to write to, making them.
	of := func(l *specpb.Launch) *specpb.ResourceAmounts {
		if *at(l) == nil {
			*at(l) = &specpb.ResourceAmounts{}
		}
		return *at(l)
	}
	return []unit{
		{
			path: name + ".cpu",
			text: func(l *specpb.Launch) []byte { return stringText((*at(l)).GetCpu()) },
			copy: func(dst, src *specpb.Launch) { of(dst).Cpu = (*at(src)).GetCpu(); tidy(at(dst)) },
		},
		{
			path: name + ".memory",
			text: func(l *specpb.Launch) []byte { return stringText((*at(l)).GetMemory()) },
			copy: func(dst, src *specpb.Launch) { of(dst).Memory = (*at(src)).GetMemory(); tidy(at(dst)) },
		},
		{
			path: name + ".gpu",
			text: func(l *specpb.Launch) []byte { return gpuText((*at(l)).GetGpu()) },
			copy: func(dst, src *specpb.Launch) { of(dst).Gpu = proto.CloneOf((*at(src)).GetGpu()); tidy(at(dst)) },
		},
	}
}

// tidy drops amounts that say nothing any more.
func tidy(a **specpb.ResourceAmounts) {
	if (*a).GetCpu() == "" && (*a).GetMemory() == "" && (*a).GetGpu() == nil {
		*a = nil
	}
}

func annotationUnit(key string) unit {
	return unit{
		path: "pod_annotations[" + key + "]",
		text: func(l *specpb.Launch) []byte {
			v, ok := l.GetPodAnnotations()[key]
			if !ok {
				return nil
			}
			return jsonText(v)
		},
		copy: func(dst, src *specpb.Launch) {
			v, ok := src.GetPodAnnotations()[key]
			if !ok {
				delete(dst.PodAnnotations, key)
				return
			}
			if dst.PodAnnotations == nil {
				dst.PodAnnotations = map[string]string{}
			}
			dst.PodAnnotations[key] = v
		},
	}
}

func portUnit(name string) unit {
	find := func(l *specpb.Launch) int {
		return slices.IndexFunc(l.GetPorts(), func(p *specpb.Port) bool { return portKey(p) == name })
	}
	return unit{
		path: "ports[" + name + "]",
		text: func(l *specpb.Launch) []byte {
			at := find(l)
			if at < 0 {
				return nil
			}
			p := l.Ports[at]
			return jsonText(struct {
				ContainerPort int32  `json:"containerPort"`
				Name          string `json:"name,omitempty"`
				Protocol      string `json:"protocol,omitempty"`
			}{p.GetContainerPort(), p.GetName(), p.GetProtocol()})
		},
		copy: func(dst, src *specpb.Launch) { dst.Ports = restored(dst.GetPorts(), src.GetPorts(), name, portKey) },
	}
}

func fileUnit(path string) unit {
	find := func(l *specpb.Launch) *specpb.MountedFile {
		for _, f := range l.GetMountedFiles() {
			if f.GetPath() == path {
				return f
			}
		}
		return nil
	}
	return unit{
		path: "mounted_files[" + path + "]",
		text: func(l *specpb.Launch) []byte {
			f := find(l)
			if f == nil {
				return nil
			}
			return jsonText(map[string]int{"bytes": len(f.GetContent())})
		},
		same: func(a, b *specpb.Launch) bool { return bytes.Equal(find(a).GetContent(), find(b).GetContent()) },
		copy: func(dst, src *specpb.Launch) {
			dst.MountedFiles = restored(dst.GetMountedFiles(), src.GetMountedFiles(), path, (*specpb.MountedFile).GetPath)
		},
	}
}

// restored returns now with the element of this name as it was, in the place where it was.
func restored[T any](now, was []T, name string, key func(T) string) []T {
	at := func(list []T, k string) int { return slices.IndexFunc(list, func(e T) bool { return key(e) == k }) }
	var out []T
	for _, e := range was {
		if k := key(e); k == name {
			out = append(out, e)
		} else if i := at(now, k); i >= 0 {
			out = append(out, now[i])
		}
	}
	for _, e := range now {
		if key(e) != name && at(was, key(e)) < 0 {
			out = append(out, e)
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

func stringText(s string) []byte {
	if s == "" {
		return nil
	}
	return jsonText(s)
}

func listText[T any](list []T) []byte {
	if len(list) == 0 {
		return nil
	}
	return jsonText(list)
}

func gpuText(g *specpb.Gpu) []byte {
	if g.GetCount() == 0 {
		return nil
	}
	return jsonText(struct {
		Count    int64  `json:"count"`
		Type     string `json:"type,omitempty"`
		MemoryGB int64  `json:"memoryGb,omitempty"`
	}{g.GetCount(), g.GetType(), g.GetMemoryGb()})
}

// jsonText encodes what always has a JSON form.
func jsonText(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
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
