package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryMethodIsDocumented: docs/api.md names each method, and the path of each that is not for later.
func TestEveryMethodIsDocumented(t *testing.T) {
	doc := readDoc(t, "api.md")
	later, _, _ := strings.Cut(doc[strings.Index(doc, "### Later"):], "## Configuration")
	for _, r := range rpcs() {
		name := string(r.method.Name())
		if strings.Contains(doc, name) {
			continue
		}
		// The methods of a feature that comes later are named by feature.
		for feature, words := range map[string]string{"Snapshot": "snapshots", "WIFConfig": "federation"} {
			if strings.Contains(name, feature) && strings.Contains(later, words) {
				name = ""
			}
		}
		if name != "" {
			t.Errorf("docs/api.md does not name %s", name)
		}
	}
	paths := regexp.MustCompile(`/(v1beta2|berm)/[^\s\x60?,]*`).FindAllString(doc, -1)
	for _, p := range paths {
		p = variable.ReplaceAllString(p, "x")
		if p == "/v1beta2/sandboxes/x/files/x" || strings.HasPrefix(p, "/berm/v1/sandboxes/x/ports/x/") { // no single method's
			continue
		}
		known := false
		for _, r := range rpcs() {
			known = known || r.path == p
		}
		if !known {
			t.Errorf("docs/api.md names %s, which is no path", p)
		}
	}
}

// TestEveryPublishedMethodIsDecided: docs/compatibility.md has a row for each method of the published data plane, in the table of its
// service, and says of those and only those that answer so that they are not implemented.
func TestEveryPublishedMethodIsDecided(t *testing.T) {
	w := newWorld(t)
	doc := readDoc(t, "compatibility.md")
	conn := w.dial(w.addr, w.admin)
	checked := 0
	for _, r := range rpcs() {
		service := r.method.Parent().Name()
		_, table, found := strings.Cut(doc, "## "+string(service)+"\n")
		if r.method.ParentFile().Package() != "coreweave.sandbox.v1beta2" || !found {
			continue
		}
		table, _, _ = strings.Cut(table, "\n## ")
		_, row, found := strings.Cut(table, "\n| `"+string(r.method.Name())+"` |")
		if !found {
			t.Errorf("docs/compatibility.md has no row for %s in the table of %s", r.method.Name(), service)
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		checked++
		if r.method.IsStreamingClient() {
			continue
		}
		says, is := strings.Contains(row, "Answers `CWSANDBOX_NOT_IMPLEMENTED`"), reasonOf(w.invoke(conn, r)) == "CWSANDBOX_NOT_IMPLEMENTED"
		if says != is {
			t.Errorf("%s is not implemented: %v, and docs/compatibility.md says %v", r.method.Name(), is, says)
		}
	}
	if checked != 30 {
		t.Errorf("%d methods were found, want 30", checked)
	}
}

// TestEveryReasonIsDocumented: docs/errors.md names each reason that the server side can give.
func TestEveryReasonIsDocumented(t *testing.T) {
	doc := readDoc(t, "errors.md")
	for reason, where := range reasons(t) {
		if !strings.Contains(doc, "`"+reason+"`") {
			t.Errorf("docs/errors.md does not name %s (%s)", reason, where)
		}
	}
}

// reasons collects the reasons that are written in the code of the server side: constants of package fault, candidates' codes
// of package place, and literals given to constructors of faults.
func reasons(t *testing.T) map[string]string {
	t.Helper()
	word := regexp.MustCompile(`^[A-Z][A-Z_]+$`)
	out := map[string]string{}
	add := func(e ast.Expr, where string) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && word.MatchString(s) {
				out[s] = where
			}
		}
	}
	for _, dir := range []string{"core", "control", "keyring", "runner", "server"} {
		err := filepath.WalkDir(filepath.Join(root, "internal", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if i < len(n.Values) && (strings.HasPrefix(strings.ToLower(name.Name), "reason") || file.Name.Name == "place" && strings.HasPrefix(name.Name, "Code")) {
							add(n.Values[i], path)
						}
					}
				case *ast.CallExpr:
					name := faultFunc(n)
					at := 0
					if name == "New" {
						at = 1
					}
					if name != "" && name != "Internalf" && len(n.Args) > at {
						add(n.Args[at], path)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d reasons were found", len(out))
	}
	return out
}

// faultFunc returns the name of the function of package fault that is called, "" for anything else.
func faultFunc(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "fault" {
		return ""
	}
	return sel.Sel.Name
}

// TestEveryEndIsDocumented: docs/errors.md lists every reason that an end can have.
func TestEveryEndIsDocumented(t *testing.T) {
	doc := readDoc(t, "errors.md")
	ends := doc[strings.Index(doc, "## Why a sandbox is as it is"):]
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal/core/sandbox.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "End") {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is no text", spec.Names[0].Name)
		}
		word, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		if found++; !strings.Contains(ends, "`"+word+"`") {
			t.Errorf("docs/errors.md does not say what the end %s is", word)
		}
		return true
	})
	if found < 9 {
		t.Errorf("%d reasons were found", found)
	}
}
