package launch

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// unit is one part of a request that can be changed by itself.
type unit struct {
	path string
	// text is the part as JSON, nil when absent; copy makes dst's part that of src.
	text func(l *specpb.Launch) []byte
	copy func(dst, src *specpb.Launch)
	// same, when not nil, compares more than text shows.
	same func(a, b *specpb.Launch) bool
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
