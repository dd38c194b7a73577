package spec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

func drawLayer(t *rapid.T) *spec.Layer {
	choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
	l, err := spec.ParseLayer(spectest.Layer(spec.Profile(), choose))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestForms: every form of a layer reads back as the layer.
func TestForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayer(t)
		for name, text := range map[string][]byte{"canonical": l.JSON(), "wire": l.WireJSON(), "yaml": l.Node().JSON()} {
			again, err := spec.ParseLayer(text)
			if err != nil || again.String() != l.String() {
				t.Fatalf("%s form %s: %s, %v", name, text, again, err)
			}
		}
		for range 2 { // what is stored is decoded once, and known then
			sameLeaves(t, l, spec.ParseStored)
		}
		if len(spec.Diff(l, l)) != 0 {
			t.Fatal("a layer differs from itself")
		}
	})
}

// sameLeaves compares every form of every value with what a reader makes of the text.
func sameLeaves(t *rapid.T, l *spec.Layer, read func([]byte) (*spec.Layer, error)) {
	again, err := read(l.JSON())
	if err != nil || len(again.Leaves()) != len(l.Leaves()) || !proto.Equal(again.Message(), l.Message()) {
		t.Fatalf("%s: %s, %v", l, again, err)
	}
	for i, want := range l.Leaves() {
		got := again.Leaves()[i]
		amount, ok := got.Amount()
		wantAmount, wantOK := want.Amount()
		if !got.Equal(want) || !cmp.Equal(got.Any(), want.Any()) || amount != wantAmount || ok != wantOK || len(got.Entries()) != len(want.Entries()) {
			t.Fatalf("%s: %s, not %s", want.Path(), got, want)
		}
	}
}

// TestDiffThenApply: the changes from one layer to another make the one the other, in any order.
func TestDiffThenApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := drawLayer(t), drawLayer(t)
		changes := rapid.Permutation(spec.Diff(old, new)).Draw(t, "order")
		got, err := spec.Apply(old, changes)
		if err != nil || got.Digest() != new.Digest() {
			t.Fatalf("%s: %s, want %s, %v", old, got, new, err)
		}
	})
}

// TestMaskTouchesOnlyTheMask: below the mask everything is the new layer's, elsewhere nothing has changed.
func TestMaskTouchesOnlyTheMask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := drawLayer(t), drawLayer(t)
		path := rapid.SampledFrom(maskable()).Draw(t, "path")
		got, err := old.Replace([]string{path}, new)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range spec.Diff(old, got) {
			if !below(path, c.Path) && !replacedWhole(path, c) {
				t.Fatalf("mask %s changed %s", path, c.Path)
			}
		}
		for _, c := range spec.Diff(new, got) {
			if below(path, c.Path) {
				t.Fatalf("mask %s left %s", path, c.Path)
			}
		}
	})
}

// replacedWhole: a mask of one key of an open object takes the place of what was said about the object as a whole, because
// no text says both.
func replacedWhole(path string, c spec.Change) bool {
	f, key, _ := spec.ByPath(path)
	return f != nil && f.Open && key != "" && c.Path == f.Path
}

func below(outer, path string) bool { return path == outer || strings.HasPrefix(path, outer+".") }

// maskable returns every path that a mask may name: those of fields, of the messages above them, and of a key.
func maskable() []string {
	seen := map[string]bool{}
	var paths []string
	add := func(p string) {
		if !seen[p] {
			seen[p] = true
			paths = append(paths, p)
		}
	}
	for _, f := range spec.Fields() {
		for i := range len(f.Path) {
			if f.Path[i] == '.' {
				add(f.Path[:i])
			}
		}
		add(f.Path)
		if f.Open {
			add(f.PathOf("nodeSelector"))
		}
	}
	return paths
}
