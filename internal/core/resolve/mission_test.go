package resolve

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"github.com/bermhq/berm/internal/core/spec"
)

var update = flag.Bool("update", false, "write the goldens anew")

// TestMission runs testdata/mission: one archive per statement. Its files are layers; a name such as override.r1.json is of
// case r1 alone. Each case has a want.json, the resolved spec, and a why.txt, where every field comes from. A file
// "builtin" adds the built-in defaults below everything.
func TestMission(t *testing.T) {
	files, err := filepath.Glob("testdata/mission/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d archives, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cases := 0
			for i := range a.Files {
				name, ok := strings.CutPrefix(a.Files[i].Name, "want.")
				if !ok {
					continue
				}
				cases++
				name = strings.TrimSuffix(strings.TrimSuffix(name, "json"), ".")
				r := Fold(missionInputs(t, a, name))
				golden(t, a, fileOf("want", name, "json"), indent(t, r.JSON()))
				golden(t, a, fileOf("why", name, "txt"), []byte(why(&r.Resolved)))
			}
			if cases == 0 {
				t.Error("no case")
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func fileOf(kind, name, ext string) string {
	if name == "" {
		return kind + "." + ext
	}
	return kind + "." + name + "." + ext
}

// missionInputs returns the layers of a case, in order.
func missionInputs(t *testing.T, a *txtar.Archive, name string) []Input {
	t.Helper()
	var inputs []Input
	if file(a, "builtin") != nil {
		inputs = append(inputs, BuiltIn())
	}
	for _, l := range []struct {
		file string
		kind Layer
	}{{"zone", LayerZone}, {"runner", LayerZone}, {"profile", LayerProfile}, {"override", LayerOverride}, {"request", LayerRequest}} {
		for _, ext := range []string{"yaml", "json"} {
			f := file(a, fileOf(l.file, name, ext))
			if f == nil {
				f = file(a, fileOf(l.file, "", ext))
			}
			if f == nil {
				continue
			}
			inputs = append(inputs, Input{Origin{Layer: l.kind, Object: l.file}, missionLayer(t, f, l.kind)})
		}
	}
	return inputs
}

func file(a *txtar.Archive, name string) *txtar.File {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &a.Files[i]
}

func missionLayer(t *testing.T, f *txtar.File, kind Layer) *spec.Layer {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(f.Data, &v); err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	read := spec.ParseLayer
	if kind == LayerRequest {
		read = spec.ParseStored // it has derived fields
	}
	l, err := read(text)
	if err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return l
}

func golden(t *testing.T, a *txtar.Archive, name string, got []byte) {
	t.Helper()
	f := file(a, name)
	if f == nil {
		t.Fatalf("no file %s", name)
	}
	if *update {
		f.Data = got
	}
	if diff := cmp.Diff(string(f.Data), string(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func indent(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// why writes a line per field: the value, its origin, and what it shadows, newest first.
func why(r *Resolved) string {
	var b strings.Builder
	for _, v := range r.Fields() {
		fmt.Fprintf(&b, "%s: %s (%s)", v.Path(), v.JSON(), v.Origin.Object)
		for i, s := range v.Shadowed {
			sep := ", "
			if i == 0 {
				sep = " over "
			}
			fmt.Fprintf(&b, "%s%s (%s)", sep, s.JSON(), s.Origin.Object)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
