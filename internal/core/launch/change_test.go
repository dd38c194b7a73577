package launch

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func drawLaunch(t *rapid.T, label string) *specpb.Launch {
	pick := func(name string, values ...string) string {
		return rapid.SampledFrom(append(values, "")).Draw(t, label+name)
	}
	l := &specpb.Launch{
		ContainerImage: pick("image", "a", "b"), EgressMode: pick("egress", "a", "b"), IngressMode: pick("ingress", "a"),
		MaxLifetimeSeconds: rapid.Int32Range(0, 2).Draw(t, label+"lifetime"),
	}
	if a := (&specpb.ResourceAmounts{Cpu: pick("cpu", "1", "2"), Memory: pick("memory", "1Gi")}); a.Cpu+a.Memory != "" {
		l.ResourceLimits = a
	}
	if rapid.Bool().Draw(t, label+"gpu") {
		l.ResourceRequests = &specpb.ResourceAmounts{Gpu: &specpb.Gpu{Count: 1, Type: pick("type", "x")}}
	}
	for _, key := range []string{"k1", "k2"} {
		if v := pick(key, "v", "w"); v != "" {
			if l.PodAnnotations == nil {
				l.PodAnnotations = map[string]string{}
			}
			l.PodAnnotations[key] = v
		}
	}
	for _, path := range []string{"/a", "/b", "/c"} {
		if rapid.Bool().Draw(t, label+path) {
			l.MountedFiles = append(l.MountedFiles, &specpb.MountedFile{Path: path, Content: []byte(pick("content"+path, "x", "y"))})
		}
	}
	for n := int32(1); n < 4; n++ {
		if rapid.Bool().Draw(t, label+"port") {
			l.Ports = append(l.Ports, &specpb.Port{ContainerPort: n, Protocol: pick("protocol", "UDP")})
		}
	}
	l.ExposedPorts = rapid.SliceOfN(rapid.Int32Range(1, 3), 0, 2).Draw(t, label+"exposed")
	if name := pick("name", "p"); name != "" {
		l.ProfileNames = []string{name}
	}
	return l
}

func canonical(t *rapid.T, l *specpb.Launch) []byte {
	text, err := Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDiffOfEqualIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLaunch(t, "a")
		if d := Diff(l, proto.CloneOf(l)); len(d) != 0 {
			t.Fatal(d)
		}
	})
}

func TestUndoingAllChangesGivesTheOriginal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawLaunch(t, "a"), drawLaunch(t, "b")
		was, is := canonical(t, a), canonical(t, b)
		changes := Diff(a, b)
		back := b
		for _, i := range rapid.Permutation(indexes(len(changes))).Draw(t, "order") {
			back = Undo(back, a, changes[i].Path)
		}
		if len(Diff(a, back)) != 0 {
			t.Fatalf("from %s to %s and back is %s: %v", was, is, canonical(t, back), Diff(a, back))
		}
		if !bytes.Equal(was, canonical(t, a)) || !bytes.Equal(is, canonical(t, b)) {
			t.Fatal("an argument was modified")
		}
	})
}

func TestUndoChangesOneField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawLaunch(t, "a"), drawLaunch(t, "b")
		changes := Diff(a, b)
		for i, c := range changes {
			left := Diff(a, Undo(b, a, c.Path))
			if len(left) != len(changes)-1 {
				t.Fatalf("undoing %s (%d of %v) leaves %v", c.Path, i, changes, left)
			}
		}
	})
}

func TestRemove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLaunch(t, "a")
		for _, path := range []string{"pod_annotations", "resource_limits", "resource_requests", "ports", "mounted_files", "container_image", "max_lifetime_seconds", "network", "profile_names"} {
			Remove(l, path)
		}
		if d := Diff(l, &specpb.Launch{}); len(d) != 0 {
			t.Fatal(d)
		}
	})
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestMarshalIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLaunch(t, "a")
		text := canonical(t, l)
		back, err := Unmarshal(text)
		if err != nil || !proto.Equal(l, back) || !bytes.Equal(text, canonical(t, back)) {
			t.Fatalf("%s is read as %v, %v", text, back, err)
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"unknown": 1}`, `{"command": 1}`, `{} {}`, `{"args": null, "args": []}`} {
		if l, err := Unmarshal([]byte(text)); err == nil {
			t.Errorf("%s was read as %v", text, l)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"command":"sh","args":["-c"],"podAnnotations":{"a":"b"},"ports":[{"containerPort":80}],"exposedPorts":[80]}`,
		`{"resource_limits":{"cpu":"1e9Gi","gpu":{"count":"-1"}},"mountedFiles":[{"path":"/a/../b","content":"AA=="}]}`,
		`{"unsupported":["x"],"maxLifetimeSeconds":-1,"containerImage":"a@sha256:"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Unmarshal(text)
		if err != nil {
			return
		}
		again, err := Marshal(l)
		if err != nil {
			t.Fatalf("%s was read but cannot be written: %v", text, err)
		}
		back, err := Unmarshal(again)
		if err != nil || !proto.Equal(l, back) {
			t.Fatalf("%s became %s: %v", text, again, err)
		}
		r, err := New(l)
		if err != nil {
			return
		}
		for _, leaf := range r.Layer.Leaves() {
			if RequestPath(leaf.Path()) == leaf.Path() && leaf.Path() != "container_image" {
				t.Fatalf("%s touches %s, which no request can", text, leaf.Path())
			}
		}
	})
}
