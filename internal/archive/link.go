package archive

import (
	"path"
	"strings"
)

// leadsOut reports whether a link in dir, relative to the top, may lead out of the top. It looks at the text alone: a link through
// another link counts as what it says.
func leadsOut(dir, target string) bool {
	if target == "" || path.IsAbs(target) {
		return true
	}
	at := path.Join(dir, target)
	if at == ".." || strings.HasPrefix(at, "../") {
		return true
	}
	// a/../../x climbs beyond the top on its way, and with a link for a it ends elsewhere than the text says.
	depth := 0
	if dir != self && dir != "" {
		depth = strings.Count(dir, "/") + 1
	}
	named := false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 || named {
				return true
			}
		default:
			depth, named = depth+1, true
		}
	}
	return false
}
