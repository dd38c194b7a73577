package initd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/shim/wire"
)

func TestMergeEnv(t *testing.T) {
	for _, tt := range []struct {
		name       string
		base, over []string
		want       []string
	}{
		{"defaults", nil, nil, []string{"PATH=" + defaultPath, "HOME=" + home()}},
		{"kept", []string{"PATH=/x", "HOME=/h"}, nil, []string{"PATH=/x", "HOME=/h"}},
		{"replaced in place", []string{"A=1", "PATH=/x", "HOME=/h"}, []string{"A=2"}, []string{"A=2", "PATH=/x", "HOME=/h"}},
		{"last counts", []string{"PATH=/x", "A=1", "A=2", "HOME=/h"}, []string{"A=3", "A=4"}, []string{"PATH=/x", "A=4", "HOME=/h"}},
		{"prefix is another name", []string{"PATH=/x", "HOME=/h", "AB=1"}, []string{"A=2"}, []string{"PATH=/x", "HOME=/h", "AB=1", "A=2"}},
		{"empty value", []string{"PATH=/x", "HOME=/h"}, []string{"A=", "B=x=y"}, []string{"PATH=/x", "HOME=/h", "A=", "B=x=y"}},
		{"empty PATH is none", []string{"PATH=", "HOME=/h"}, nil, []string{"PATH=" + defaultPath, "HOME=/h"}},
	} {
		if got := mergeEnv(tt.base, tt.over); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"one/tool": 0o755, "two/tool": 0o755, "two/plain": 0o644, "two/only": 0o755, "here": 0o755} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := dir + "/none::" + dir + "/one:" + dir + "/two:relative"
	for _, tt := range []struct {
		name string
		want string
		code wire.Code
	}{
		{"tool", dir + "/one/tool", ""},
		{"only", dir + "/two/only", ""},
		{"plain", "", wire.CodePermissionDenied},
		{"none", "", wire.CodeCommandNotFound},
		{"here", "", wire.CodeCommandNotFound}, // The empty element of PATH is not the working directory.
		{"./here", dir + "/./here", ""},
		{"two/tool", dir + "/two/tool", ""},
		{dir + "/one/tool", dir + "/one/tool", ""},
		{"/no/such", "", wire.CodeCommandNotFound},
		{"./one", "", wire.CodePermissionDenied},
	} {
		got, err := lookup(tt.name, path, dir)
		if tt.code == "" && (err != nil || got != tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
		if tt.code != "" && (err == nil || err.Code != tt.code || !strings.Contains(err.Message, filepath.Base(tt.name))) {
			t.Errorf("%s: %q, %v, want %s", tt.name, got, err, tt.code)
		}
	}
}
