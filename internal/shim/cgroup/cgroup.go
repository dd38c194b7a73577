// Package cgroup finds, reads, empties and removes the control groups of one container, on cgroup v1, on v2 and on hosts
// with both. The OCI runtime makes them and sets the limits.
package cgroup

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Root is where the hierarchies are mounted.
const Root = "/sys/fs/cgroup"

// Mode is the arrangement of cgroup hierarchies.
type Mode string

// The modes.
const (
	// V1: one hierarchy per controller.
	V1 Mode = "v1"
	// Hybrid: as V1, with a v2 hierarchy at Root/unified that holds none of the controllers that matter here.
	Hybrid Mode = "hybrid"
	// V2: the unified hierarchy.
	V2 Mode = "v2"
)

// Group is the control group of one container, in every hierarchy.
type Group struct {
	Mode Mode `json:"mode"`
	// Path is config.json's cgroupsPath, absolute: "/berm/sb-1".
	Path string `json:"path"`
	// Base is the ancestor of Path that is kept; empty groups between the two are removed with Path. It should be the
	// parent that sandboxes share: removing that one would race with the next start.
	Base string `json:"base"`
}

// Detect says how the hierarchies are arranged here.
func Detect() (Mode, error) { return detect(Root) }

func detect(root string) (Mode, error) {
	if exists(filepath.Join(root, "cgroup.controllers")) {
		return V2, nil
	}
	if !exists(filepath.Join(root, "memory")) {
		return "", fmt.Errorf("no cgroup hierarchy with a memory controller at %s", root)
	}
	if exists(filepath.Join(root, "unified", "cgroup.controllers")) {
		return Hybrid, nil
	}
	return V1, nil
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// Check says what is wrong with g.
func (g Group) Check() error {
	switch g.Mode {
	case V1, Hybrid, V2:
	default:
		return fmt.Errorf("cgroup mode %q: want v1, hybrid or v2", g.Mode)
	}
	for _, p := range []string{g.Path, g.Base} {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("cgroup path %q: want an absolute path, and no . or .. in it", p)
		}
	}
	if g.Path == "/" || g.Path == g.Base || !strings.HasPrefix(g.Path, strings.TrimSuffix(g.Base, "/")+"/") {
		return fmt.Errorf("cgroup path %q is not below its base %q", g.Path, g.Base)
	}
	return nil
}
