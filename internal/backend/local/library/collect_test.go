package library

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestChoose: whatever there is, what is kept stays, what is old goes, and no more goes than is needed to fit.
func TestChoose(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		size := map[v1.Hash]int64{}
		for i := range 8 {
			size[v1.Hash{Hex: fmt.Sprint(i)}] = rapid.Int64Range(0, 100).Draw(t, "size")
		}
		var all []candidate
		for i := range rapid.IntRange(0, 8).Draw(t, "images") {
			c := candidate{digest: fmt.Sprint(i), used: now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Second), kept: rapid.Bool().Draw(t, "kept")}
			for _, l := range rapid.SliceOfN(rapid.IntRange(0, 7), 0, 4).Draw(t, "layers") {
				c.layers = append(c.layers, v1.Hash{Hex: fmt.Sprint(l)})
			}
			all = append(all, c)
		}
		keep, most := time.Duration(rapid.IntRange(1, 120).Draw(t, "keep"))*time.Second, rapid.Int64Range(0, 300).Draw(t, "most")
		gone := choose(all, size, now, keep, most, 6)
		left := func(without []string) (total int64, n int) {
			seen := map[v1.Hash]bool{}
			for _, c := range all {
				if slices.Contains(without, c.digest) {
					continue
				}
				n++
				for _, l := range c.layers {
					if !seen[l] {
						seen[l] = true
						total += size[l]
					}
				}
			}
			return total, n
		}
		fits := func(without []string) bool {
			total, n := left(without)
			return (most == 0 || total <= most) && n <= 6
		}
		for _, c := range all {
			old, removed := now.Sub(c.used) >= keep, slices.Contains(gone, c.digest)
			if removed && c.kept {
				t.Fatalf("%s is kept and went", c.digest)
			}
			if !removed && !c.kept && (old || !fits(gone)) {
				t.Fatalf("%s stays", c.digest)
			}
		}
		for i, d := range gone {
			at := slices.IndexFunc(all, func(c candidate) bool { return c.digest == d })
			if now.Sub(all[at].used) < keep && fits(gone[:i]) {
				t.Fatalf("%s went and need not have", d)
			}
		}
	})
}

// TestCollect: age and size remove what nothing uses, with its layers; sandboxes, pins and aliases keep theirs.
func TestCollect(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{imagetest.Tar(t, imagetest.File("f", strings.Repeat("x", 1000+i)))}})
		w.reg.Push(fmt.Sprintf("img/%d", i), l)
	}
	ref := func(i int) string { return fmt.Sprintf("%s/img/%d:v1", w.reg.Host, i) }
	w.cfg.Keep, w.cfg.Pins = time.Hour, []string{ref(1)}
	w.cfg.Names, _ = ParseNames("runner r1", map[string]string{"aliased": ref(2)}, nil, true)
	l := w.open()
	var holds []*Hold
	for i := range 4 {
		holds = append(holds, w.get(l, ref(i)).Hold)
	}
	for i, h := range holds {
		if i != 0 {
			h.Release()
		}
	}
	w.now = w.now.Add(2 * time.Hour)
	done, err := l.Collect()
	if err != nil || done.Images != 1 || done.Layers != 1 || done.Bytes != 1003 {
		t.Errorf("%+v %v", done, err)
	}
	if f, err := l.Find(ref(3), Names{}); err != nil || f.Image != nil {
		t.Errorf("what is removed is found: %+v %v", f, err)
	}
	// The next library knows what was used; a sandbox of the earlier one holds again.
	holds[0].Release()
	again := &Hold{Digest: holds[0].Digest, Layers: holds[0].Layers}
	l.Close()
	l = w.open()
	l.Again(again)
	if done, err := l.Collect(); err != nil || done.Images != 0 {
		t.Errorf("%+v %v", done, err)
	}
	again.Release()
	again.Release()
	if done, err := l.Collect(); err != nil || done.Images != 1 {
		t.Errorf("%+v %v", done, err)
	}
	if layers, parts, blobs := w.layersOn(); layers != 2 || parts != 0 || blobs != 4 {
		t.Errorf("%d layers, %d parts, %d blobs, want those of a pin and an alias", layers, parts, blobs)
	}
	// By size, the one used longest ago first.
	l.cfg.MaxBytes, l.pinned = 2500, map[string]bool{}
	w.get(l, ref(0)).Hold.Release()
	w.now = w.now.Add(time.Minute)
	w.get(l, ref(3)).Hold.Release()
	if done, err := l.Collect(); err != nil || done.Images != 2 {
		t.Errorf("%+v %v", done, err)
	}
	for i, want := range []bool{false, false, true, true} {
		if f, _ := l.Find(ref(i), Names{}); (f.Image != nil) != want {
			t.Errorf("image %d is here: %v", i, !want)
		}
	}
}

// TestManage: ls, pull and rm, as people use them.
func TestManage(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	var last backend.ImageProgress
	img, err := l.Pull(t.Context(), backend.ImagePull{Ref: w.ref(":v1"), Pin: true}, func(p backend.ImageProgress) { last = p })
	if err != nil || img.Downloaded == 0 || !img.Pinned || img.Layers != 2 || img.InUse != 0 || img.Bytes != 10 {
		t.Fatalf("%+v %v", img, err)
	}
	if last.Done != 2 || last.Bytes != last.Total || last.Total == 0 || last.Source != "registry "+w.reg.Host {
		t.Errorf("the last progress: %+v", last)
	}
	if img, err := l.Pull(t.Context(), backend.ImagePull{Ref: w.ref(":v1")}, nil); err != nil || img.Downloaded != 0 || !img.Pinned {
		t.Errorf("again: %+v %v", img, err)
	}
	if _, err := l.Pull(t.Context(), backend.ImagePull{Ref: "host"}, nil); !fault.Is(err, fault.Precondition) {
		t.Errorf("host: %v", err)
	}
	w.l.Index.Manifests[0].Annotations = map[string]string{"org.opencontainers.image.ref.name": "v2"}
	w.reg.Push("team/tool", w.l)
	g, err := l.Get(t.Context(), Request{Ref: w.ref(":v2"), Use: true})
	if err != nil || g.Downloaded != 0 {
		t.Fatalf("%+v %v", g, err)
	}
	list, err := l.List()
	if err != nil || len(list) != 1 || len(list[0].Names) != 2 || list[0].InUse != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	// A name of two goes although the image is used; a pinned one does not.
	if _, err := l.Remove(w.ref(":v1"), false); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("%v", err)
	}
	if done, err := l.Remove(w.ref(":v1"), true); err != nil || done.Digest != "" || len(done.Names) != 1 {
		t.Errorf("%+v %v", done, err)
	}
	if _, err := l.Remove(w.ref(":v2"), false); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "in use by 1 ") {
		t.Errorf("%v", err)
	}
	// By force its names go at once, its content when it is used no more.
	done, err := l.Remove(img.Digest[:len("sha256:")+minPrefix], true)
	if err != nil || done.Digest != img.Digest || done.Freed != 0 {
		t.Errorf("%+v %v", done, err)
	}
	if layers, _, _ := w.layersOn(); layers != 2 {
		t.Errorf("%d layers of a sandbox that runs", layers)
	}
	g.Hold.Release()
	if done, err := l.Collect(); err != nil || done.Layers != 2 || done.Bytes != 10 {
		t.Errorf("%+v %v", done, err)
	}
	if layers, parts, blobs := w.layersOn(); layers+parts+blobs != 0 {
		t.Errorf("%d layers, %d parts, %d blobs are left", layers, parts, blobs)
	}
	for _, ref := range []string{w.ref(":v1"), "nothing", "sha256:12345", img.Digest} {
		if _, err := l.Remove(ref, true); !fault.HasReason(err, fault.ReasonImageNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
