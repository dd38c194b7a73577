package local

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/hostroot"
)

// environment returns NAME=value by name.
func (r *reader) environment(vars map[string]string) []string {
	if len(vars) > MaxEnvEntries {
		r.refuse("environment_variables", "%d variables, at most %d are possible", len(vars), MaxEnvEntries)
	}
	var env []string
	total := 0
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		entry := name + "=" + vars[name]
		total += len(entry)
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			r.refuse("environment_variables", "%q is no name of a variable", name)
		case strings.ContainsRune(vars[name], 0) || !utf8.ValidString(entry):
			r.refuse("environment_variables["+name+"]", "the value has a zero byte or is no UTF-8")
		case len(entry) >= MaxString:
			r.refuse("environment_variables["+name+"]", "%d bytes; the kernel takes less than %d", len(entry), MaxString)
		}
		env = append(env, entry)
	}
	if total > MaxEnvBytes {
		r.refuse("environment_variables", "%d bytes together, at most %d are possible", total, MaxEnvBytes)
	}
	return env
}

// files checks where mounted files shall be. On the image "host" the machine's directories have no room for them.
func (r *reader) files(files []*specpb.MountedFile, host bool) {
	if len(files) > MaxMountedFiles {
		r.refuse("mounted_files", "%d files, at most %d are possible", len(files), MaxMountedFiles)
		return
	}
	total := 0
	seen := map[string]bool{}
	for i, f := range files {
		at := fmt.Sprintf("mounted_files[%d].path", i)
		p := f.GetPath()
		total += len(f.GetContent())
		if problem := filePath(p, host); problem != "" {
			r.refuse(at, "%.128q: %s", p, problem)
			continue
		}
		if seen[p] {
			r.refuse(at, "%q is given twice", p)
		}
		seen[p] = true
	}
	for i, f := range files {
		for dir := path.Dir(f.GetPath()); len(dir) > 1; dir = path.Dir(dir) {
			if seen[dir] {
				r.refuse(fmt.Sprintf("mounted_files[%d].path", i), "%q is below %q, which is a mounted file", f.GetPath(), dir)
			}
		}
	}
	if total > MaxMountedBytes {
		r.refuse("mounted_files", "%d bytes together, at most %d are possible", total, MaxMountedBytes)
	}
}

// filePath says what is wrong with the place of a mounted file, "" for nothing.
func filePath(p string, host bool) string {
	switch {
	case !path.IsAbs(p):
		return "want an absolute path"
	case len(p) > MaxPath:
		return fmt.Sprintf("%d bytes, at most %d are possible", len(p), MaxPath)
	case strings.ContainsRune(p, 0) || !utf8.ValidString(p):
		return "a zero byte, or no UTF-8"
	case path.Clean(p) != p:
		return "want the shortest form, without . .. // and a slash at the end"
	case p == "/":
		return "the root is no file"
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		if len(part) > 255 {
			return "an element of more than 255 bytes"
		}
	}
	forbidden := []string{"/proc", "/sys", "/dev"}
	if host {
		forbidden = append(forbidden, "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/var/run", "/var/lock")
	}
	for _, dir := range forbidden {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return "nothing can be put below " + dir
		}
	}
	return ""
}

// inTmpfs reports whether a path of the image "host" lies in a private file system, where mount points can be made.
func inTmpfs(p string) bool {
	for dir := range hostroot.WritableDirs() {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}
