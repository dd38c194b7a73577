package server_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var updateErrors = flag.Bool("update", false, "write the golden errors of apply anew")

// badFiles are files that cannot be applied: a name, then NAME and TEXT of each file. What is said of them is in testdata.
var badFiles = []struct {
	name  string
	files []string
}{
	{"an empty file", []string{"a.yaml", "  \n"}},
	{"nothing but comments", []string{"a.yaml", "# nothing\n---\n"}},
	{"no file that is read", []string{"README.md", "x", ".hidden.yaml", "kind: zone\nname: z\n", ".git/a.yaml", "x: ["}},
	{"a tab", []string{"a.yaml", "kind: zone\nname: z\n---\nkind: profile\n\tdisplay_name: x\n"}},
	{"broken JSON", []string{"a.json", "{\"kind\": \"zone\",\n \"name\": \"z\",}\n"}},
	{"a key twice", []string{"a.yaml", "kind: zone\nname: z\nname: y\n"}},
	{"a text", []string{"a.yaml", "just words\n"}},
	{"no kind", []string{"a.yaml", "display_name: agent\nspec: {}\n", "b.yaml", "x: 1\n"}},
	{"another kind", []string{"a.yaml", "kind: Profile\ndisplay_name: agent\nspec: {}\n"}},
	{"no name", []string{"a.yaml", "kind: runner\nidentity: {zone: z}\nprofile_bindings: []\n", "b.yaml", "kind: zone\nname: 7\n"}},
	{"a name that cannot be", []string{"a.yaml", "kind: profile\ndisplay_name: my agent\nspec: {}\n"}},
	{"no spec", []string{"a.yaml", "kind: profile\ndisplay_name: agent\n"}},
	{"unknown keys", []string{
		"a.yaml", "kind: profile\ndisplay_name: agent\nlabel: {}\nspec: {}\n", "b.yaml", "kind: profile\ndisplay_name: other\nspec:\n  resource_default: {cpu_limit: \"1\"}\n",
		"c.yaml", "kind: zone\nname: z\ndefaults:\n  network: {egress: {mode: x}}\n", "d.yaml", "kind: runner\nidentity: {runner_id: r, zone: z, cluster_name: c}\nprofile_bindings:\n  - profile: default\n    override: {}\n",
	}},
	{"unknown keys that the server finds", []string{"a.yaml", "kind: runner\nidentity:\n  runner_id: r\n  zon: z\n  cluster_name: c\nmanaged_spec: {overrides: {scaling: {replica: 1}}}\nprofile_bindings: [{profile: default, is_default: true}]\n"}},
	{"what the server makes", []string{"a.yaml", "kind: profile\nid: x\ndisplay_name: agent\nspec: {}\n"}},
	{"values of another type", []string{"a.yaml", "kind: profile\ndisplay_name: agent\nlabels: [a]\nspec: {tags: x, resource_defaults: {cpu_limit: much}}\n"}},
	{"an object in two files", []string{"a.yaml", "kind: zone\nname: z\n", "b/c.yaml", "# more\nkind: profile\ndisplay_name: z\nspec: {}\n---\nkind: zone\nname: z\ndefaults: {}\n"}},
	{"a profile that is nowhere", []string{"a.yaml", "kind: runner\nidentity: {runner_id: r, zone: z, cluster_name: c}\nprofile_bindings:\n  - {profile: default, is_default: true}\n  - profile: agnet\n", "b.yaml", "kind: profile\ndisplay_name: agent\nspec: {}\n"}},
	{"two defaults", []string{"a.yaml", "kind: runner\nidentity: {runner_id: r, zone: z, cluster_name: c}\nprofile_bindings:\n  - {profile: default, is_default: true}\n  - {profile: default, profile_name: x, is_default: true}\n"}},
	{"another cluster", []string{"a.yaml", "kind: runner\nidentity: {runner_id: r1, zone: local, cluster_name: elsewhere}\nprofile_bindings: [{profile: default, is_default: true}]\n"}},
	{"several that are refused", []string{"a.yaml", "kind: runner\nidentity: {runner_id: a, zone: z}\nprofile_bindings: [{profile: default, is_default: true}]\n", "b.yaml", "kind: runner\nidentity: {runner_id: b, zone: z, cluster_name: c}\nprofile_bindings: []\n"}},
	{"an alias in a circle", []string{"a.yaml", "kind: zone\nname: z\ndefaults: &d {node_selector: {a: *d}}\n"}},
	{"aliases without bound", []string{"a.yaml", "kind: zone\nname: z\na: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ndefaults: [*d,*d]\n"}},
	{"a document that is too large", []string{"a.yaml", "kind: zone\nname: z\n---\nkind: profile\ndescription: " + strings.Repeat("x", 1<<20) + "\n"}},
	{"directories without end", []string{strings.Repeat("d/", 33) + "a.yaml", "kind: zone\nname: z\n"}},
	{"more than is shown", manyBroken()},
	{"an owner and something else", []string{"berm.yaml", "owner: a\nowners: b\n", "a.yaml", "kind: zone\nname: z\n"}},
	{"an owner that cannot be", []string{"berm.yaml", "owner: a b\n", "a.yaml", "kind: zone\nname: z\n"}},
}

func manyBroken() (files []string) {
	for i := range 25 {
		files = append(files, fmt.Sprintf("f%02d.yaml", i), "kind: x\n")
	}
	return files
}

// TestApplyOfBadFiles: each is refused with what is wrong, at its place, and nothing is written.
func TestApplyOfBadFiles(t *testing.T) {
	w := newWorld(t)
	var got strings.Builder
	say := func(name, dir string, s said) {
		fmt.Fprintf(&got, "=== %s: exit code %d\n%s%s", name, s.code, strings.ReplaceAll(s.out, dir, "DIR"), strings.ReplaceAll(s.err, dir, "DIR"))
	}
	for _, c := range badFiles {
		dir := put(t, t.TempDir(), c.files...)
		say(c.name, dir, w.berm(w.admin, "", "apply", "-f", dir, "--yes"))
	}
	zone := "kind: zone\nname: z\n"
	for _, c := range []struct {
		name string
		make func(dir string) error
	}{
		{"a link out of the directory", func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "a.yaml")) }},
		{"a link to a directory", func(dir string) error { return os.Symlink(".", filepath.Join(dir, "more")) }},
		{"a link to nothing", func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, "a.yaml")) }},
		{"a pipe", func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "a.yaml"), 0o600) }},
	} {
		dir := put(t, t.TempDir(), "b.yaml", zone)
		w.must(c.make(dir))
		say(c.name, dir, w.berm(w.admin, "", "apply", "-f", dir, "--yes"))
	}
	sets := put(t, t.TempDir(), "one/berm.yaml", "owner: one\n", "one/a.yaml", zone, "two/berm.yaml", "owner: two\n", "none/a.yaml", "kind: zone\nname: y\n")
	one, two, none := filepath.Join(sets, "one"), filepath.Join(sets, "two"), filepath.Join(sets, "none")
	say("two owners", sets, w.berm(w.admin, "", "apply", "-f", one, "-f", two, "--yes"))
	say("an owner of one of two", sets, w.berm(w.admin, "", "apply", "-f", one, "-f", none, "--yes"))
	say("an owner of the other of two", sets, w.berm(w.admin, "", "apply", "-f", none, "-f", one, "--yes"))
	say("nothing but an owner", sets, w.berm(w.admin, "", "apply", "-f", two, "--prune", "--yes"))
	say("no such file", "DIR", w.berm(w.admin, "", "apply", "-f", "/nowhere.yaml"))
	say("no file", "DIR", w.berm(w.admin, "", "apply"))
	say("exit code of what", "DIR", w.berm(w.admin, zone, "apply", "-f", "-", "--exit-code"))
	say("prune of nobody", "DIR", w.berm(w.admin, zone, "apply", "-f", "-", "--prune", "--plan"))
	say("nobody to ask", "DIR", w.berm(w.admin, zone, "apply", "-f", "-"))
	say("by a user", "DIR", w.berm(w.user, zone, "apply", "-f", "-", "--plan"))
	for _, name := range []string{"z", "y"} {
		w.call(w.admin, http.MethodGet, "/berm/v1/zones/"+name, nil).want(http.StatusNotFound)
	}
	path := filepath.Join("testdata", "apply_errors.golden")
	if *updateErrors {
		w.must(os.MkdirAll("testdata", 0o700))
		w.must(os.WriteFile(path, []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	w.must(err)
	if got.String() != string(want) {
		t.Errorf("%s: -update writes it; got\n%s", path, got.String())
	}
	// A link within the directory is read: mounted files are such.
	dir := put(t, t.TempDir(), "..data/z.yaml", zone)
	w.must(os.Symlink("..data/z.yaml", filepath.Join(dir, "z.yaml")))
	w.berm(w.admin, "", "apply", "-f", dir, "--yes").want(t, 0)
}
