package controlplane

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Without a mask an update replaces exactly what its body holds: each scalar, list and map that is there. What is beside it
// in the same message stays. An empty object replaces a message as a whole.

// PresentPaths returns the paths of the keys in an object, down to the fields that a mask may name.
func PresentPaths(n *tree.Node, md protoreflect.MessageDescriptor, at string, leaf func(path string) bool) []string {
	var paths []string
	for _, k := range n.Keys {
		fd := md.Fields().ByName(protoreflect.Name(k.Name))
		if fd == nil {
			fd = md.Fields().ByJSONName(k.Name)
		}
		if fd == nil {
			continue
		}
		path := tree.Join(at, string(fd.Name()))
		if k.Value.Kind == tree.Object && len(k.Value.Keys) > 0 && fd.Message() != nil && !fd.IsMap() && !leaf(path) {
			paths = append(paths, PresentPaths(k.Value, fd.Message(), path, leaf)...)
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// specPaths returns the paths of what a spec in a body says. A part that the wire carries as JSON text is one field.
func specPaths(n *tree.Node, l *spec.Layer) []string {
	if n == nil || l == nil {
		return nil
	}
	if n.Kind == tree.Null || len(n.Keys) == 0 {
		return []string{"spec"}
	}
	whole := map[string]bool{}
	for _, k := range n.Keys {
		if k.Value.Kind != tree.String {
			continue
		}
		if path, err := spec.ParseMask("spec."+k.Name, []string{"spec.*"}); err == nil && isMessage(path[0]) {
			whole[path[0]] = true
		}
	}
	paths := make([]string, 0, len(whole)+len(l.Leaves()))
	for path := range whole {
		paths = append(paths, path)
	}
	for _, leaf := range l.Leaves() {
		if path := "spec." + leaf.Path(); !whole[firstTwo(path)] {
			paths = append(paths, path)
		}
	}
	return paths
}

// isMessage reports whether a path of a spec, with "spec." before it, is no field but a message of fields.
func isMessage(path string) bool {
	_, _, field := spec.ByPath(path[len("spec."):])
	return !field
}

// firstTwo returns the first two parts of a path: "spec.network" of "spec.network.egress.default".
func firstTwo(path string) string {
	dots := 0
	for i := range len(path) {
		if path[i] == '.' {
			if dots++; dots == 2 {
				return path[:i]
			}
		}
	}
	return path
}
