package image

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Target is a place in an OCI layout.
type Target struct {
	// Layout is the directory of an OCI layout; "" is the image "host".
	Layout string
	// Tag is the name of the manifest in the layout, "" when it has but one.
	Tag string
	// Digest, when not empty, must be that of the index or manifest found.
	Digest string
	// Ref is the reference asked for.
	Ref string
}

// ParseTarget reads what an alias stands for: "host" or "oci:DIR[:NAME]" with an absolute directory.
func ParseTarget(s string) (Target, error) {
	if s == Host {
		return Target{}, nil
	}
	rest, ok := strings.CutPrefix(s, "oci:")
	if !ok {
		return Target{}, fmt.Errorf("want %q or oci:DIR[:NAME]", Host)
	}
	dir, tag, _ := strings.Cut(rest, ":")
	if !filepath.IsAbs(dir) {
		return Target{}, fmt.Errorf("the layout's directory %q is not absolute", dir)
	}
	return Target{Layout: filepath.Clean(dir), Tag: tag}, nil
}

// maxListed is how many names a message lists.
const maxListed = 8

func listed(names []string) string {
	if n := len(names) - maxListed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), n)
	}
	return strings.Join(names, ", ")
}
