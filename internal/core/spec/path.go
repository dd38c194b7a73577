package spec

import "strings"

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

// canonicalPath returns the snake_case path of a field, a key of an open object, or a message.
func (r *Registry) canonicalPath(path string) (string, bool) {
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
