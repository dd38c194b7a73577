package spec

import (
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Limits of a mask.
const (
	// MaxMask is the longest mask, in bytes.
	MaxMask = 4096
	// MaxMaskPaths is how many paths it may name.
	MaxMaskPaths = 64
)

// ParseMask reads a field mask, paths separated by commas in snake_case or camelCase, and returns its paths in snake_case,
// sorted, without those that another one covers. The empty mask has no paths.
//
// allowed lists what may be named: "labels"; "spec.*" is "spec" and every path of a profile spec below it; "!id" is a
// field that exists and cannot be changed, which gets an error of its own (FIELD_IMMUTABLE). Anything else is refused with
// reason MASK_INVALID and a suggestion, all paths together.
func ParseMask(text string, allowed []string) ([]string, error) {
	if len(text) > MaxMask {
		return nil, fault.Invalidf(fault.ReasonMaskInvalid, "the update mask has %d bytes, the limit is %d", len(text), MaxMask)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	given := strings.Split(text, ",")
	if len(given) > MaxMaskPaths {
		return nil, fault.Invalidf(fault.ReasonMaskInvalid, "the update mask has %d paths, the limit is %d", len(given), MaxMaskPaths)
	}
	var paths []string
	e := fault.Invalidf(fault.ReasonMaskInvalid, "invalid update mask")
	for _, g := range given {
		path, why := maskPath(strings.TrimSpace(g), allowed)
		if why == immutable {
			e.Reason = fault.ReasonFieldImmutable
		}
		if why != "" {
			e = e.WithField(clip(path), "%s", why)
			continue
		}
		paths = append(paths, path)
	}
	if len(e.Fields) > 0 {
		return nil, e
	}
	return outermost(paths), nil
}

const immutable = "cannot be changed"

// maskPath returns the canonical form of one path, or why it is refused.
func maskPath(text string, allowed []string) (path, why string) {
	if text == "" {
		return "", "a path is empty; is there a comma too many?"
	}
	path = snakePath(text)
	var names []string
	for _, a := range allowed {
		if a == path {
			return path, ""
		}
		if fixed, ok := strings.CutPrefix(a, "!"); ok {
			if fixed == path || strings.HasPrefix(path, fixed+".") {
				return path, immutable
			}
			continue
		}
		base, open := strings.CutSuffix(a, ".*")
		names = append(names, base)
		if !open {
			continue
		}
		if path == base {
			return path, ""
		}
		// Keys of open objects are kept as written, so the rest of the path is taken from the text.
		if _, rest, ok := strings.Cut(text, "."); ok && strings.HasPrefix(path, base+".") && !strings.Contains(base, ".") {
			if inner, ok := profile().maskable(rest); ok {
				return base + "." + inner, ""
			}
			names = append(names, prefixed(base, profile().pathNames())...)
		}
	}
	why = "no field that can be updated"
	if s := tree.Suggest(path, names); s != "" {
		return text, why + "; did you mean \"" + s + "\"?"
	}
	if len(names) <= MaxItems {
		slices.Sort(names)
		why += "; known are " + strings.Join(names, ", ")
	}
	return text, why
}

// snakePath turns the camelCase parts of a path into snake_case.
func snakePath(text string) string {
	if strings.ToLower(text) == text {
		return text
	}
	return snake(text)
}

// maskable returns the snake_case path that a mask may name below a spec: a message, a field or a key of an open object.
// One entry of a map is not a value of its own.
func (r *Registry) maskable(path string) (string, bool) {
	if m := r.wirePath(path); m != "" {
		return m, true
	}
	if f, key, ok := r.ByPath(path); ok && key != "" && !f.Open {
		return "", false
	}
	return r.CanonicalPath(path)
}

// wirePath returns the path of the message that the wire carries as text under this name.
func (r *Registry) wirePath(name string) string {
	if m := r.root.byName[name]; m != nil && m.group != nil {
		return m.group.path
	}
	return ""
}

func prefixed(base string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = base + "." + n
	}
	return out
}

// outermost returns paths sorted, without repetitions and without those below another one.
func outermost(paths []string) []string {
	slices.Sort(paths)
	var out []string
	for _, p := range paths {
		if !slices.ContainsFunc(out, func(o string) bool { return covers(o, p) }) {
			out = append(out, p)
		}
	}
	return out
}

func covers(outer, path string) bool { return path == outer || strings.HasPrefix(path, outer+".") }

// Replace returns l with what from says about the fields that paths name; everything else stays. A path is that of a
// message, of a field or of a key of an open object, in the form of ParseMask without the "spec." before it; "" names the
// whole spec. Unknown paths are refused with reason MASK_INVALID.
func (l *Layer) Replace(paths []string, from *Layer) (*Layer, error) {
	r := l.reg()
	e := fault.Invalidf(fault.ReasonMaskInvalid, "invalid update mask")
	canonical := make([]string, 0, len(paths))
	for _, p := range paths {
		c, ok := r.maskable(p)
		if !ok && p != "" {
			e = e.WithField(p, "no field of a spec")
		}
		canonical = append(canonical, c)
	}
	if len(e.Fields) > 0 {
		return nil, e
	}
	masked := func(leaf Leaf) bool {
		return slices.ContainsFunc(canonical, func(p string) bool { return p == "" || covers(p, leaf.Path()) })
	}
	leaves := slices.DeleteFunc(slices.Clone(l.Leaves()), masked)
	for _, leaf := range from.Leaves() {
		if masked(leaf) {
			leaves = append(leaves, leaf)
		}
	}
	slices.SortFunc(leaves, Leaf.Compare)
	return &Layer{registry: r, leaves: wholes(leaves)}, nil
}
