package cli

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestBegunFiles: what an earlier copy left of a large file is asked for and gone on with, and nothing else a sandbox sends is put behind it.
func TestBegunFiles(t *testing.T) {
	dir := t.TempDir()
	top, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	content := bytes.Repeat([]byte("content "), archive.MinPart/4)
	half := content[:archive.MinPart+3]
	temp := filepath.Join(dir, "d", partName("large"))
	leave := func() {
		t.Helper()
		for _, err := range []error{os.MkdirAll(filepath.Dir(temp), 0o755), os.WriteFile(temp, half, partMode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	leave()
	file := archive.Entry{Mode: 0o644, Size: int64(len(content))}
	small := archive.Entry{Mode: 0o644, Size: archive.MinPart - 1}
	list := map[string]archive.Entry{"d": {Mode: os.ModeDir | 0o755}, "d/large": file, "d/none": file, "gone/large": file, "small": small}
	sub, err := archive.OpenDir(top, "d")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	begun := func(complete ...string) (*treeDownload, []archive.Begun) {
		t.Helper()
		d := &treeDownload{progress: (&session{Stdio: Stdio{Err: &bytes.Buffer{}}}).progressOf(copyFlags{}, "")}
		t.Cleanup(d.here.close)
		found, err := d.here.find(t.Context(), top, list, complete)
		if err != nil {
			t.Fatal(err)
		}
		return d, found
	}
	d, found := begun()
	sum := sha256.Sum256(half)
	if len(found) != 1 || found[0].Name != "d/large" || found[0].Offset != int64(len(half)) || !bytes.Equal(found[0].Prefix, sum[:]) {
		t.Fatalf("%+v", found)
	}
	other := &localPart{dir: sub, name: "large"}
	if err := other.open(true); !fault.HasReason(err, fault.ReasonFileBusy) {
		t.Errorf("another one at the same time: %v", err)
	}
	for name, p := range map[string]archive.Piece{
		"another offset": {Name: "d/large", Size: file.Size, Offset: 7}, "not asked for": {Name: "d/none", Size: file.Size, Offset: int64(len(half))},
	} {
		if _, err := d.take(sub, "large", p); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if got, err := os.ReadFile(temp); err != nil || !bytes.Equal(got, half) {
		t.Errorf("what was here has %d bytes now, %v", len(got), err)
	}
	d, _ = begun()
	part, err := d.take(sub, "large", archive.Piece{Name: "d/large", Size: file.Size, Offset: int64(len(half))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(content[len(half):]); err != nil {
		t.Fatal(err)
	}
	if err := part.Finish(0o640, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	part.Close(nil)
	if got, err := os.ReadFile(filepath.Join(dir, "d/large")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	leave()
	if _, found := begun("d/large"); len(found) > 0 {
		t.Errorf("of a file that is whole: %+v", found)
	}
	for broken, kept := range map[error]bool{fault.New(fault.Unavailable, "X", "gone"): true, errors.New("nonsense"): false} {
		d, _ = begun()
		part, err := d.take(sub, "large", archive.Piece{Name: "d/large", Size: file.Size})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		part.Close(broken)
		if _, err := os.Stat(temp); (err == nil) != kept {
			t.Errorf("after %v: %v", broken, err)
		}
	}
}
