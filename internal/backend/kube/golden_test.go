package kube_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

var update = flag.Bool("update", false, "write the goldens instead of comparing with them")

// enough is how many goldens there are at the least, so that a moved folder does not pass for success.
const enough = 20

// TestGolden compares ObjectsFor with testdata. A case is a txtar archive: spec.yaml is the resolved spec, launch.yaml the
// request, input.yaml ids and options where they matter; the last file is what comes of it, objects.yaml or error.txt.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < enough {
		t.Fatalf("%d goldens, want at least %d", len(paths), enough)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Error("the case does not say what it shows")
	}
	in, wanted := read(t, archive)
	before := proto.CloneOf(in.Spec)
	name, got := outcome(t, in)
	if !proto.Equal(before, in.Spec) {
		t.Error("the spec was changed")
	}
	if *update {
		archive.Files = append(archive.Files[:wanted], txtar.File{Name: name, Data: got})
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if wanted != len(archive.Files)-1 {
		t.Fatalf("want one of objects.yaml and error.txt as the last file")
	}
	if want := archive.Files[wanted]; want.Name != name {
		t.Errorf("got %s, want %s:\n%s", name, want.Name, got)
	} else if diff := cmp.Diff(string(want.Data), string(got)); diff != "" {
		t.Errorf("-want +got (go test -update rewrites it):\n%s", diff)
	}
}

// outcome returns the file that a case ends in.
func outcome(t *testing.T, in kube.PodInput) (name string, text []byte) {
	t.Helper()
	objects, err := kube.ObjectsFor(in)
	if err != nil {
		return "error.txt", []byte(faultText(err))
	}
	text, err = objects.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := kube.ObjectsFor(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(objects, again); diff != "" {
		t.Errorf("the same input gave two pods:\n%s", diff)
	}
	return "objects.yaml", text
}

func faultText(err error) string {
	f := fault.From(err)
	out := fmt.Sprintf("%s %s: %s\n", f.Code, f.Reason, f.Message)
	for _, v := range f.Fields {
		out += fmt.Sprintf("  %s: %s\n", v.Path, v.Description)
	}
	if f.Hint != "" {
		out += "hint: " + f.Hint + "\n"
	}
	if f.Cause != nil {
		out += "cause: " + f.Cause.Error() + "\n"
	}
	return out
}

// read returns the input of a case and the index of the first file that is not input.
func read(t testing.TB, archive *txtar.Archive) (in kube.PodInput, wanted int) {
	t.Helper()
	in = plain()
	for i, f := range archive.Files {
		switch f.Name {
		case "spec.yaml":
			decode(t, f.Data, in.Spec)
		case "launch.yaml":
			decode(t, f.Data, in.Launch)
		case "input.yaml":
			if err := yaml.UnmarshalStrict(f.Data, &in); err != nil {
				t.Fatal(err)
			}
		default:
			return in, i
		}
	}
	return in, len(archive.Files)
}

func decode(t testing.TB, data []byte, m proto.Message) {
	t.Helper()
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
}

// plain is the smallest input that makes a pod, but for the image.
func plain() kube.PodInput {
	in := kube.PodInput{}
	in.SandboxID, in.OrgID, in.UserID = "0198c1f2-7a3e-7c11-9d0a-5b1c2d3e4f50", "3f6b2c1d-0a9e-4b8c-8d7f-112233445566", "7d1e9b40-2f5a-4c63-9e18-a0b1c2d3e4f5"
	in.RunnerID, in.ProfileName, in.ZoneName, in.Digest = "runner-a", "agent", "eu-1", "sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"
	in.Privileged = true // The owner of the cluster has the last word: Options.AllowPrivileged.
	in.Spec, in.Launch = &specpb.ProfileSpec{}, &specpb.Launch{Command: "sleep", Args: []string{"infinity"}}
	return in
}
