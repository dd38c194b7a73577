package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFreeze(t *testing.T) {
	for mode, file := range map[Mode]string{V1: "freezer/berm/a/freezer.state", Hybrid: "freezer/berm/a/freezer.state", V2: "berm/a/cgroup.freeze"} {
		root := tree(t, map[string]string{file: "", "berm/a/cgroup.events": "populated 1\nfrozen 1\n", "freezer/tasks": "", "berm/cgroup.freeze": "0"})
		g := Group{Mode: mode, Path: "/berm/a", Base: "/berm"}
		content := func() string {
			b, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		if !canFreeze(root, mode, "/berm") || canFreeze(t.TempDir(), mode, "/berm") {
			t.Errorf("%s: can it freeze?", mode)
		}
		want := map[Mode][2]string{V1: {"FROZEN", "THAWED"}, Hybrid: {"FROZEN", "THAWED"}, V2: {"1", "0"}}[mode]
		if err := g.freeze(t.Context(), root); err != nil || content() != want[0] {
			t.Errorf("%s: %q, %v", mode, content(), err)
		}
		if err := g.thaw(root); err != nil || content() != want[1] {
			t.Errorf("%s: %q, %v", mode, content(), err)
		}
		gone := Group{Mode: mode, Path: "/berm/gone", Base: "/berm"}
		if err := gone.freeze(t.Context(), root); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: freeze of a group that is gone: %v", mode, err)
		}
		if err := gone.thaw(root); err != nil {
			t.Errorf("%s: thaw of a group that is gone: %v", mode, err)
		}
	}
}

// TestFreezeThatFails: processes that do not stand still in time run on.
func TestFreezeThatFails(t *testing.T) {
	root := tree(t, map[string]string{"berm/a/cgroup.freeze": "0", "berm/a/cgroup.events": "populated 1\nfrozen 0\n"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Group{Mode: V2, Path: "/berm/a", Base: "/berm"}).freeze(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "berm/a/cgroup.freeze")); err != nil || string(b) != "0" {
		t.Errorf("left %q, %v", b, err)
	}
}
