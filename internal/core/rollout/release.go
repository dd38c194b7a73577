package rollout

import (
	"slices"
	"strings"
)

// Names of the release channels.
const (
	Stable = "stable"
	Rapid  = "rapid"
)

// Release is what a channel offers.
type Release struct {
	// Version is what `berm --version` says of it.
	Version string
	// Image is Berm's image of that version, "" where none is known.
	Image string
}

// Releases are what each channel offers.
type Releases map[string]Release

// String is a release in words.
func (r Release) String() string {
	switch {
	case r.Image == "":
		return r.Version
	case r.Version == "":
		return r.Image
	}
	return r.Version + " (" + r.Image + ")"
}

// Takes reports whether an image is of a repository that the owner of a runner allows. An entry is a whole repository: no other begins
// with it by accident.
func Takes(repositories []string, image string) bool {
	return slices.ContainsFunc(repositories, func(r string) bool {
		rest, ok := strings.CutPrefix(image, r)
		return ok && r != "" && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "@")) && !strings.Contains(rest, "/")
	})
}
