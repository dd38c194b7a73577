package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestManyBrokenDocuments: what is not shown takes no look at the file, so that it does not cost its length for each of its documents.
func TestManyBrokenDocuments(t *testing.T) {
	const documents = 5000
	path := filepath.Join(t.TempDir(), "a.yaml")
	text := strings.Repeat("kind: x\n---\n", documents) + strings.Repeat("# more\n", 50_000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, command := range []string{"apply", "import"} {
		got := run(t, map[string]string{}, "", command, map[string]string{"apply": "-f", "import": "--strict"}[command], path)
		if got.code != 2 || strings.Count(got.err, "    1 | ") != 1 || !strings.Contains(got.err, "and 4980 more\nerror: 5000 documents cannot be used") {
			t.Errorf("%s: exit %d, stderr %.3000s", command, got.code, got.err)
		}
	}
	runtime.ReadMemStats(&after)
	// Each look makes a list of 60,000 lines: all of them together would be more than 10 GB.
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<30 {
		t.Errorf("%d MB were used", used>>20)
	}
}
