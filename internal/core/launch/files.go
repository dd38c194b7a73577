package launch

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func (p *problems) files(files []*specpb.MountedFile) {
	if !p.count("mounted_files", len(files), MaxMountedFiles) {
		return
	}
	total := 0
	paths := make([]string, 0, len(files))
	for i, f := range files {
		total += len(f.GetContent())
		if why := badPath(f.GetPath()); why != "" {
			p.add(index("mounted_files", i)+".mount_path", "%s", why)
			continue
		}
		paths = append(paths, f.GetPath())
	}
	// Sorted, a file that is also the directory of another stands before it, if not next to it.
	slices.Sort(paths)
	for i, at := range paths {
		if i > 0 && paths[i-1] == at {
			p.add("mounted_files", "%q is given twice", at)
		}
		if j, _ := slices.BinarySearch(paths, at+"/"); j < len(paths) && strings.HasPrefix(paths[j], at+"/") {
			p.add("mounted_files", "%q is a file and the directory of %q", at, paths[j])
		}
	}
	if total > MaxMountedBytes {
		p.add("mounted_files", "%d bytes together, the limit is %d", total, MaxMountedBytes)
	}
}

func badPath(s string) string {
	switch {
	case s == "":
		return "is empty: give the full path of the file"
	case len(s) > MaxPath:
		return "is longer than " + strconv.Itoa(MaxPath) + " bytes"
	case s[0] != '/':
		return strconv.Quote(s) + " is not absolute"
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return strconv.Quote(s) + " contains a control character"
	case path.Clean(s) != s || s == "/":
		return strconv.Quote(s) + " is not the plain path of a file: no .., no . and no // in it, no / at its end"
	}
	return ""
}
