package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
	"google.golang.org/protobuf/types/known/structpb"
)

// result is what a command line left behind.
type result struct {
	code     int
	out, err string
}

// run runs a command line with an environment of its own.
func run(t *testing.T, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	if env["HOME"] == "" {
		env["HOME"] = t.TempDir()
	}
	code := Main(context.Background(), args, Stdio{In: strings.NewReader(stdin), Out: &out, Err: &errs, Getenv: func(k string) string { return env[k] }})
	return result{code, out.String(), errs.String()}
}

func TestUsageErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"profle"}, 2, []string{"unknown command", "profile"}},
		{[]string{"profile", "creat"}, 2, []string{"unknown command", "Did you mean", "profile create"}},
		{[]string{"profile", "get"}, 2, []string{"needs the name", "Usage:"}},
		{[]string{"get", "a", "b"}, 2, []string{"got 2 arguments"}},
		{[]string{"nonsense"}, 2, []string{"unknown command", "berm --help"}},
		{[]string{"token", "create", "--expires-in", "-5s", "--url", "http://127.0.0.1:1"}, 2, []string{"--expires-in -5s", "whole number of seconds"}},
		{[]string{"token", "create", "--expires-in", "1193047h", "--url", "http://127.0.0.1:1"}, 2, []string{"2147483647"}},
		{[]string{"stop", "x", "--grace", "1500ms", "--url", "http://127.0.0.1:1"}, 2, []string{"--grace 1.5s", "whole number of seconds"}},
		{[]string{"run", "--timeout", "-1s", "--", "true"}, 2, []string{"--timeout -1s is negative"}},
		{[]string{"run", "--memroy", "1Gi", "--", "true"}, 2, []string{"unknown flag: --memroy", "Did you mean --memory?"}},
		{[]string{"run", "--file", "/nowhere:/x", "--", "true"}, 2, []string{"cannot read /nowhere: no such file"}},
		{[]string{"run", "--nope", "--", "true"}, 2, []string{"unknown flag", "--help"}},
		{[]string{"run"}, 2, []string{"no command", "--"}},
		{[]string{"exec", "x"}, 2, []string{"no command"}},
		{[]string{"run", "--env", "=x", "--", "true"}, 2, []string{"has no name"}},
		{[]string{"run", "--annotation", "x", "--", "true"}, 2, []string{"KEY=VALUE"}},
		{[]string{"run", "--file", "x:relative", "--", "true"}, 2, []string{"LOCAL:PATH"}},
		{[]string{"run", "--cpu-request", "1", "--", "true"}, 2, []string{"goes with a limit"}},
		{[]string{"serve", "--runner", "=z"}, 2, []string{"NAME"}},
		{[]string{"serve", "--runner", "a", "--runner", "a=z"}, 2, []string{"twice"}},
		{[]string{"run", "-o", "xml", "--url", "http://127.0.0.1:1", "--", "true"}, 2, []string{"use table, wide, json or yaml"}},
		{[]string{"profile", "create", "-o", "pod", "--url", "http://127.0.0.1:1", "-f", "-"}, 2, []string{"use table, wide, json or yaml"}},
		{[]string{"plan", "-o", "pdo", "--url", "http://127.0.0.1:1"}, 2, []string{"yaml or pod"}},
		{[]string{"migrate", "--data", "/x", "--db", "postgres://127.0.0.1/x"}, 2, []string{"name two databases"}},
		{[]string{"run", "-d", "--timeout", "5s", "--url", "http://127.0.0.1:1", "--", "true"}, 2, []string{"--detach and --timeout exclude each other"}},
		{[]string{"run", "--keep", "--rm", "--url", "http://127.0.0.1:1", "--", "true"}, 2, []string{"--keep and --rm exclude each other"}},
		{[]string{"plan", "-f", "-", "--runner", "x", "--url", "http://127.0.0.1:1"}, 2, []string{"--request and --runner exclude each other"}},
		{[]string{"runner", "create", "x", "-f", "-", "--zone", "z", "--url", "http://127.0.0.1:1"}, 2, []string{"--file and --zone exclude each other"}},
		{[]string{"serve", "--runner", "a", "--no-runner"}, 2, []string{"exclude each other"}},
		{[]string{"kube-image", "--name", "a"}, 2, []string{"one of --out and --layout"}},
		{[]string{"--url", "https://h:1", "runner", "join", "a", "--format", "helm"}, 2, []string{"--image", "no name of an image"}},
		{[]string{"--url", "http://h:1", "runner", "join", "a", "--format", "manifest", "--image", "b"}, 2, []string{"cannot connect to", "--gateway https://"}},
		{[]string{"--url", "http://h:1", "runner", "join", "a", "--image", "b"}, 2, []string{"go with --format"}},
		{[]string{"--url", "http://h:1", "runner", "join", "a", "--format", "yaml"}, 2, []string{"unknown format", "manifest"}},
		{[]string{"serve", "--kube-init", "x"}, 2, []string{"--kube-init", "image-volume"}},
		{[]string{"--url", "https://h:1", "runner", "join", "a", "--format", "helm", "--image", "b", "--kube-network", "x"}, 2, []string{"--kube-network"}},
		{[]string{"serve", "--log-format", "xml"}, 2, []string{"text or json"}},
		{[]string{"serve", "--max-connections", "0"}, 2, []string{"--max-connections 0", "1 to"}},
		{[]string{"serve", "--max-calls", "-1"}, 2, []string{"--max-calls -1", "1 to"}},
		{[]string{"serve", "--max-calls", "10", "--max-calls-per-token", "11"}, 2, []string{"--max-calls-per-token 11", "1 to 10"}},
		{[]string{"serve", "--nat64-prefix", "2001:db8::/33"}, 2, []string{"--nat64-prefix 2001:db8::/33", "96 bits"}},
		{[]string{"serve", "--sandbox-connection-rate", "0"}, 2, []string{"--sandbox-connection-rate 0", "1 to"}},
		{[]string{"serve", "--all-sandbox-connections", "-1"}, 2, []string{"--all-sandbox-connections -1", "1 to"}},
		{[]string{"context", "use", "nowhere"}, 5, []string{"no context"}},
		{[]string{"context", "set", "x", "--url", "ftp://x"}, 2, []string{"not the URL of a server", "http://HOST:PORT"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			got := run(t, map[string]string{}, "", c.args...)
			if got.code != c.code {
				t.Errorf("exit code %d, want %d", got.code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(got.err, want) {
					t.Errorf("stderr lacks %q:\n%s", want, got.err)
				}
			}
			if got.out != "" {
				t.Errorf("stdout has %q", got.out)
			}
		})
	}
}

// TestOutputEverywhere: every command that answers has -o, and takes no format that it cannot write. run, exec, execs attach and lease hold answer with what
// they ran, logs with what was printed, audit export with lines, cp with the file, serve and port-forward never.
func TestOutputEverywhere(t *testing.T) {
	without := map[string]bool{"berm exec": true, "berm execs attach": true, "berm shell": true, "berm lease hold": true, "berm logs": true, "berm audit export": true, "berm cp": true, "berm port-forward": true, "berm serve": true, "berm kube-image": true, "berm help": true}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.HasSubCommands() || without[c.CommandPath()] {
			return
		}
		f := c.Flags().Lookup("output")
		if f == nil {
			t.Errorf("%s has no -o", c.CommandPath())
			return
		}
		for format, ok := range map[string]bool{"json": true, "yaml": true, "xml": false} {
			if err := f.Value.Set(format); (err == nil) != ok {
				t.Errorf("%s -o %s: %v", c.CommandPath(), format, err)
			}
		}
	}
	s := &session{Stdio: Stdio{Getenv: func(string) string { return "" }}}
	visit(s.root())
}

func TestWithoutServer(t *testing.T) {
	if got := run(t, map[string]string{}, "", "ls"); got.code != 8 || !strings.Contains(got.err, "berm serve") {
		t.Errorf("ls: %+v", got)
	}
	if got := run(t, map[string]string{}, "", "run", "--", "true"); got.code != 125 {
		t.Errorf("run: exit code %d, want 125: the command did not run", got.code)
	}
	got := run(t, map[string]string{"BERM_URL": "http://127.0.0.1:1"}, "", "profile", "list")
	if got.code != 8 || !strings.Contains(got.err, "cannot reach the server at http://127.0.0.1:1") {
		t.Errorf("profile list: %+v", got)
	}
}

func TestFileErrorsAreShownInTheText(t *testing.T) {
	text := "display_name: a\nspec:\n  container_imge: x\n"
	got := run(t, map[string]string{}, text, "profile", "create", "-f", "-")
	want := "standard input:3:3: spec.container_imge: unknown field \"container_imge\"; did you mean \"container_image\"?\n    3 |   container_imge: x\n      |   ^\n"
	if got.code != 2 || !strings.HasPrefix(got.err, want) {
		t.Errorf("exit code %d, stderr:\n%s\nwant it to start with:\n%s", got.code, got.err, want)
	}
	if got := run(t, map[string]string{}, "", "profile", "create", "-f", "/nowhere/x.yaml"); got.code != 2 || !strings.Contains(got.err, "/nowhere/x.yaml") {
		t.Errorf("missing file: %+v", got)
	}
	if got := run(t, map[string]string{}, strings.Repeat("#", 2<<20), "profile", "create", "-f", "-"); got.code != 2 || !strings.Contains(got.err, "larger than") {
		t.Errorf("large file: %+v", got)
	}
}

// TestServerIsFound holds the order: flag, variable, context, running server.
func TestServerIsFound(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	s := &session{Stdio: Stdio{Getenv: func(k string) string { return env[k] }}}
	url := func() string {
		t.Helper()
		c, err := s.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.URL()
	}
	token := filepath.Join(home, "token")
	if err := os.WriteFile(token, []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := config.RunningDir(s.Getenv)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, r config.Running) {
		t.Helper()
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := config.WriteRunning(filepath.Join(dir, name), raw)
		if err != nil {
			t.Fatal(err)
		}
		if name == "dead.json" { // Its process id is that of another process by now.
			f.Close()
			return
		}
		t.Cleanup(func() { f.Close() })
	}
	write("live.json", config.Running{PID: os.Getpid(), URL: "http://127.0.0.1:1", TokenFile: token})
	write("dead.json", config.Running{PID: os.Getpid(), URL: "http://127.0.0.1:2", TokenFile: token})
	if got := url(); got != "http://127.0.0.1:1" {
		t.Errorf("running server: %s", got)
	}
	if got := run(t, env, "", "context", "set", "far", "--url", "http://127.0.0.1:3", "--token", "x"); got.code != 0 {
		t.Fatalf("context set: %+v", got)
	}
	if got := url(); got != "http://127.0.0.1:3" {
		t.Errorf("context: %s", got)
	}
	if info, err := os.Stat(config.ContextFile(s.Getenv)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the context file holds tokens: %v %v", info, err)
	}
	env["CWSANDBOX_BASE_URL"] = "http://127.0.0.1:4"
	if got := url(); got != "http://127.0.0.1:4" {
		t.Errorf("published variable: %s", got)
	}
	env["BERM_URL"] = "http://127.0.0.1:5"
	if got := url(); got != "http://127.0.0.1:5" {
		t.Errorf("variable: %s", got)
	}
	s.url = "http://127.0.0.1:6"
	if got := url(); got != "http://127.0.0.1:6" {
		t.Errorf("flag: %s", got)
	}
}

func TestSeveralServersAreNamed(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	dir := config.RunningDir(func(k string) string { return env[k] })
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"1", "2"} {
		raw := `{"pid": ` + jsonInt(os.Getpid()) + `, "url": "http://127.0.0.1:` + port + `"}`
		f, err := config.WriteRunning(filepath.Join(dir, port+".json"), []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	got := run(t, env, "", "ls")
	if got.code != 6 || !strings.Contains(got.err, "http://127.0.0.1:1, http://127.0.0.1:2") {
		t.Errorf("%+v", got)
	}
}

func jsonInt(n int) string {
	raw, _ := json.Marshal(n)
	return string(raw)
}

func TestSplitRemote(t *testing.T) {
	for in, want := range map[string][2]string{
		"sb:/a/b":    {"sb", "/a/b"},
		"./x:/y":     {"", "./x:/y"},
		"/a:/b":      {"", "/a:/b"},
		"file":       {"", "file"},
		"sb:rel":     {"", "sb:rel"},
		":/x":        {"", ":/x"},
		"-":          {"", "-"},
		"sb:/a:/b c": {"sb", "/a:/b c"},
	} {
		box, path := splitRemote(in)
		if box != want[0] || path != want[1] {
			t.Errorf("%q: %q %q, want %q", in, box, path, want)
		}
	}
}

func TestRefusalShowsCandidatesAndTheNearestRequest(t *testing.T) {
	var errs bytes.Buffer
	s := &session{Stdio: Stdio{Err: &errs}}
	to, err := structpb.NewValue("2")
	if err != nil {
		t.Fatal(err)
	}
	from, err := structpb.NewValue("8\x1b[31m")
	if err != nil {
		t.Fatal(err)
	}
	code := s.exit(&runError{fault.Preconditionf(fault.ReasonProfileMismatch, "no runner admits it").WithDetail(&bermv1.Refusal{
		Candidates: []*bermv1.Candidate{{RunnerId: "east", ProfileName: "agent", Reasons: []*bermv1.Reason{{
			Message: "cpu 8 is above 2", LimitOrigin: &bermv1.Origin{Object: "profile agent", Revision: 3},
		}}}},
		Changes:           []*bermv1.Change{{Path: "resource_limits.cpu", From: from, To: to}},
		OmittedCandidates: 40, AdmittingProfiles: []string{"big", "gpu"},
	})})
	if code != 125 {
		t.Errorf("exit code %d, want 125", code)
	}
	want := "error: no runner admits it\n  runner east, profile agent:\n    - cpu 8 is above 2 (set by profile agent, revision 3)\n  and 40 more\n" +
		"  The request names no profile; these are bound too and would admit it: big, gpu\n  The nearest request that would pass changes:\n    - resource_limits.cpu: 2 (was 8?[31m)\n"
	if errs.String() != want {
		t.Errorf("got\n%s\nwant\n%s", errs.String(), want)
	}
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[fault.Code]int{
		fault.Invalid: 2, fault.Unauthenticated: 4, fault.Denied: 4, fault.NotFound: 5, fault.Exists: 5, fault.Conflict: 6,
		fault.Precondition: 6, fault.Exhausted: 7, fault.OutOfRange: 6, fault.Unavailable: 8, fault.Deadline: 8, fault.Internal: 1,
		fault.Canceled: 130, fault.Unimplemented: 6,
	} {
		s := &session{Stdio: Stdio{Err: &bytes.Buffer{}}}
		if got := s.exit(fault.New(code, "X", "x")); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
	s := &session{Stdio: Stdio{Err: &bytes.Buffer{}}}
	if got := s.exit(&exitError{42}); got != 42 {
		t.Errorf("the command's own code became %d", got)
	}
	if got := s.exit(&runError{fault.New(fault.Deadline, fault.ReasonCommandTimeout, "late")}); got != 124 {
		t.Errorf("timeout: %d, want 124", got)
	}
}

// TestExitCodesAreDocumented: docs/errors.md says of each code what berm exits with.
func TestExitCodesAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if cells := strings.Split(line, " | "); len(cells) == 5 {
			rows[strings.TrimPrefix(cells[0], "| ")] = cells[3]
		}
	}
	for code, exit := range exitCodes {
		if name := code.String(); rows[name] != strconv.Itoa(exit) {
			t.Errorf("%s exits with %d, documented is %q", name, exit, rows[name])
		}
	}
}
