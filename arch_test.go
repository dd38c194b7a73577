// Package berm_test holds the rules of the repository that a machine can check.
package berm_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/bermhq/berm"

// pkg is what `go list -deps -json` says of one package.
type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	Deps       []string
	Standard   bool
}

// ban forbids packages that match From to reach any of To. Deep bans look at everything that is linked, shallow ones at the
// imports alone: protobuf itself reaches os.
type ban struct {
	from   string
	except []string
	to     []string
	deep   bool
	why    string
}

var bans = []ban{
	{
		from: "internal/core/...",
		to:   []string{"os", "net", "net/http", "os/exec", "database/sql", "log", "log/slog", "context", "math/rand", "math/rand/v2"},
		why:  "core is pure: no I/O, no clock, no randomness, no logging, no context",
	},
	{
		from: "internal/core/...",
		to: []string{
			"google.golang.org/grpc", "k8s.io/client-go/rest", "modernc.org/sqlite", "github.com/jackc/pgx/v5",
			module + "/gen/coreweave/sandbox/v1beta2", module + "/gen/berm/v1",
		},
		deep: true,
		why:  "core knows only the messages of berm/spec, and no transport",
	},
	{
		from: "internal/control/...",
		to:   []string{"google.golang.org/grpc", "database/sql", "modernc.org/sqlite", "k8s.io/client-go/rest", "net/http"},
		why:  "use cases order effects; they know ports, not technologies",
	},
	{
		from: "internal/store/sqlstore/...", to: []string{module + "/internal/backend/...", module + "/internal/server/...", module + "/internal/control/..."},
		deep: true, why: "adapters do not know each other",
	},
	{
		from: "internal/backend/...", to: []string{module + "/internal/store/...", module + "/internal/server/...", module + "/internal/control/..."},
		deep: true, why: "adapters do not know each other",
	},
	{
		from: "internal/...", except: []string{"internal/server/...", "internal/client/...", "internal/app/...", "internal/cli/...", "internal/link/...", "internal/payload", "internal/keyring/kms"},
		to:  []string{"google.golang.org/grpc"},
		why: "only the edges speak gRPC",
	},
	{
		from: "internal/...", except: []string{"internal/app/...", "internal/server/..."},
		to:  []string{module + "/internal/store/sqlstore", module + "/internal/server"},
		why: "only app sees the adapters",
	},
	{
		from: "internal/shim/...", to: []string{"google.golang.org/protobuf/proto", "google.golang.org/grpc", "k8s.io/api/core/v1", "k8s.io/client-go/rest"},
		deep: true, why: "the shim is the init of every sandbox: it stays small",
	},
	{
		from: "internal/initd/...", to: []string{"google.golang.org/protobuf/proto", "google.golang.org/grpc", "net/http", "k8s.io/client-go/rest"},
		deep: true, why: "the init is in every sandbox: it stays small",
	},
	{
		from: "gen/coreweave/sandbox/v1beta2", to: []string{"google.golang.org/grpc", "net/http"},
		deep: true, why: "message packages import no transport",
	},
}

func TestImportRules(t *testing.T) {
	all := list(t)
	for _, b := range bans {
		t.Run(b.from+" not "+b.to[0], func(t *testing.T) { check(t, all, b) })
	}
}

func check(t *testing.T, all map[string]pkg, b ban) {
	matched := false
	for _, p := range all {
		if !within(p.ImportPath, b.from) || anyWithin(p.ImportPath, b.except) {
			continue
		}
		matched = true
		reach := p.Imports
		if b.deep {
			reach = p.Deps
		}
		for _, d := range reach {
			if anyWithin(d, b.to) {
				t.Errorf("%s reaches %s: %s", p.ImportPath, d, b.why)
			}
		}
	}
	if !matched {
		t.Errorf("no package matches %s any more: the rule is stale", b.from)
	}
	// A ban of something that nobody links at all would pass for ever, also under a wrong name.
	for _, to := range b.to {
		if _, ok := all[to]; !ok && !strings.HasSuffix(to, "/...") && strings.Contains(to, ".") && !known(t, to) {
			t.Errorf("banned package %s does not exist: the rule is stale", to)
		}
	}
}

// known reports whether the package can be found in the build list, linked or not.
func known(t *testing.T, path string) bool {
	t.Helper()
	return exec.Command("go", "list", path).Run() == nil
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range list(t) {
		if strings.HasPrefix(p.ImportPath, module+"/internal") && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Doc,Imports,Deps,Standard", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// within reports whether path is the package, or below it when pattern ends in /....
func within(path, pattern string) bool {
	if !strings.Contains(strings.SplitN(pattern, "/", 2)[0], ".") && (strings.HasPrefix(pattern, "internal") || strings.HasPrefix(pattern, "gen")) {
		pattern = module + "/" + pattern
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func anyWithin(path string, patterns []string) bool {
	for _, p := range patterns {
		if within(path, p) {
			return true
		}
	}
	return false
}
