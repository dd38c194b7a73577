package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMigrate follows a database from nothing to current: looking changes nothing, applying does once.
func TestMigrate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	migrate := func(args ...string) (result, schemaJSON) {
		t.Helper()
		got := run(t, map[string]string{}, "", append([]string{"migrate", "--data", dir}, args...)...)
		var s schemaJSON
		if got.code == 0 && got.out != "" && got.out[0] == '{' {
			if err := json.Unmarshal([]byte(got.out), &s); err != nil {
				t.Fatalf("%v in %s", err, got.out)
			}
		}
		return got, s
	}
	got, _ := migrate()
	if got.code != 0 || !strings.Contains(got.err, "is not there yet") || !strings.HasPrefix(got.out, "-- 00001 initial\n-- +goose Up\n") {
		t.Errorf("nothing there: %+v", got)
	}
	if _, s := migrate("-o", "json"); s.Exists || s.Version != 0 || s.Latest == 0 || int64(len(s.Steps)) != s.Latest || s.Steps[0].Applied || s.Steps[0].SQL == "" {
		t.Errorf("nothing there: %+v", s)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("looking made the data directory")
	}
	if got, s := migrate("--apply", "-o", "json"); !s.Exists || s.Version != s.Latest || int64(len(s.Steps)) != s.Latest || !s.Steps[0].Applied {
		t.Errorf("applied: %+v, %+v", got, s)
	}
	for _, args := range [][]string{nil, {"--apply"}} {
		if got, _ := migrate(args...); got.code != 0 || got.out != "" || !strings.Contains(got.err, "which is what this berm needs") {
			t.Errorf("current, %v: %+v", args, got)
		}
	}
	if got, _ := migrate("--all"); !strings.Contains(got.out, "CREATE TABLE objects") {
		t.Errorf("all: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "berm.db"), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := migrate("--apply"); got.code != 6 || !strings.Contains(got.err, "not a SQLite database") {
		t.Errorf("a file of another program: %+v", got)
	}
}
