package spec

import (
	"strings"

	"github.com/bermhq/berm/internal/core/tree"
)

// ByPath finds a field by its path in snake_case or camelCase. Below an open object the rest of the path is the key,
// behind a map a key in brackets names one entry; otherwise key is "".
func (r *Registry) ByPath(path string) (f *Field, key string, ok bool) {
	if f = r.byPath[path]; f != nil {
		return f, "", true
	}
	if open := strings.IndexByte(path, '['); open > 0 && strings.HasSuffix(path, "]") {
		if f = r.byPath[path[:open]]; f != nil && f.Kind == KindMap && len(path) > open+2 {
			return f, path[open+1 : len(path)-1], true
		}
	}
	for dot := len(path); ; {
		if dot = strings.LastIndexByte(path[:dot], '.'); dot < 0 {
			return nil, "", false
		}
		if f = r.byPath[path[:dot]]; f != nil {
			return f, path[dot+1:], f.Open && dot+1 < len(path)
		}
	}
}

// CanonicalPath returns the snake_case form of a path of a message, a field, a key of an open object or an entry of a map; ok is
// false when there is no such thing.
func (r *Registry) CanonicalPath(path string) (canonical string, ok bool) {
	if g := r.groups[path]; g != nil {
		return g.path, true
	}
	f, key, ok := r.ByPath(path)
	if !ok {
		return "", false
	}
	return f.PathOf(key), true
}

// pathNames returns all paths, for suggestions.
func (r *Registry) pathNames() []string {
	var names []string
	var walk func(g *group)
	walk = func(g *group) {
		for _, m := range g.members {
			if m.group != nil {
				names = append(names, m.group.path)
				walk(m.group)
				continue
			}
			names = append(names, m.field.Path)
		}
	}
	walk(r.root)
	return names
}

// SuggestPath returns the path that is most likely meant by one that does not exist, or "": the nearest by spelling, or else the
// first whose last name is what was given alone.
func (r *Registry) SuggestPath(path string) string {
	names := r.pathNames()
	if s := tree.Suggest(path, names); s != "" {
		return s
	}
	lasts := make([]string, len(names))
	for i, n := range names {
		lasts[i] = n[strings.LastIndexByte(n, '.')+1:]
	}
	last := tree.Suggest(path, lasts)
	for i, l := range lasts {
		if last != "" && l == last {
			return names[i]
		}
	}
	return ""
}

// DocOf returns what the message at a path means, "" for none.
func (r *Registry) DocOf(path string) string {
	if g := r.groups[path]; g != nil {
		return g.doc
	}
	return ""
}
