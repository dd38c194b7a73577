package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestWriteAllAt: more slices than one system call takes, empty ones among them, come behind each other, where they were to be.
func TestWriteAllAt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []byte{0, 0, 0}
	var slices [][]byte
	for i := range 2*maxVector + 7 {
		piece := bytes.Repeat([]byte{byte(i)}, i%5)
		slices, want = append(slices, piece), append(want, piece...)
	}
	if n, err := writeAllAt(f, slices, 3); err != nil || int(n) != len(want)-3 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	readOnly, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if _, err := writeAllAt(readOnly, [][]byte{{1}}, 0); err == nil {
		t.Error("was written to a file that cannot be")
	}
}
