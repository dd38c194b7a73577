//go:build crash

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

// Settings from the environment.
const (
	// envBinary is the binary to try.
	envBinary = "BERM_CRASH_BINARY"
	// envChoice says which failpoints, a regular expression; none: all.
	envChoice = "BERM_CRASH"
	// envTurn is the hit to die at, for a deeper search: then it is no failure that something is not hit so often. A shim passes
	// each of its failpoints once.
	envTurn = "BERM_CRASH_TURN"
)

func binary() string {
	if b := os.Getenv(envBinary); b != "" {
		return b
	}
	return "../../bin/berm"
}

// atStartOnly are the failpoints that a running server does not pass.
var atStartOnly = []string{
	"control.before-bootstrap-commit", "control.before-capacity-commit", "control.after-recover-read", "control.after-first-pass",
	"control.before-collect", // and then every hour
	"local.recover-one", adopting, "store.before-migrate", "store.after-migrate", "store.set-capacity",
}

// withRunner begins the names of failpoints that are passed only while a runner in another process comes in: test/scenarios/runner.sh
// kills the server at each of them.
const withRunner = "control.runner-"

// adopting is passed where a sandbox with a network lives when the server starts, onlines begins the names of the failpoints of networks. The
// others of those are mostly passed with the first sandbox that has one, so that none lives then.
const adopting, onlines = "network.rules-adopted", "network."

// atShim begins the names of the failpoints that kill a shim; all others kill the server.
const atShim = "shim."

// tally is what the whole matrix did, by failpoint.
type tally struct {
	mu     sync.Mutex
	deaths map[string]deaths
}

// deaths says when one failpoint killed.
type deaths struct {
	first, takeover, operating bool
	// cut counts the calls that the deaths left without an answer, living the sandboxes that lived then.
	cut, living int
}

// TestCrashMatrix fails when any failpoint was not reached.
func TestCrashMatrix(t *testing.T) {
	names := failpoints(t)
	layout, hub := newImage(t)
	all := tally{deaths: map[string]deaths{}}
	before := mountedNamespaces(t)
	t.Run("at", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := crashAt(t, name, layout.Dir, hub)
				all.mu.Lock()
				defer all.mu.Unlock()
				all.deaths[name] = d
			})
		}
	})
	if after := mountedNamespaces(t); !slices.Equal(after, before) {
		t.Errorf("network namespaces are mounted that were not before: %q, then %q", before, after)
	}
	all.report(t, names)
}

// failpoints lists those of the binary that were chosen.
func failpoints(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(binary(), "serve", "--print-failpoints").Output()
	if err != nil {
		t.Fatalf("list failpoints: %v", err)
	}
	all := strings.Fields(string(out))
	for _, name := range atStartOnly {
		if !slices.Contains(all, name) {
			t.Errorf("there is no failpoint %s", name)
		}
	}
	choice := regexp.MustCompile(os.Getenv(envChoice))
	deeper := os.Getenv(envTurn) != ""
	chosen := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return !choice.MatchString(name) || strings.HasPrefix(name, withRunner) || deeper && (strings.HasPrefix(name, atShim) || slices.Contains(atStartOnly, name))
	})
	if len(chosen) == 0 {
		t.Fatalf("no failpoint matches %s; there are %q", choice, all)
	}
	t.Logf("%d failpoints of %d", len(chosen), len(all))
	return chosen
}

func (a *tally) report(t *testing.T, names []string) {
	t.Helper()
	var first, takeover, operating, cut, living, reached int
	for _, name := range names {
		d := a.deaths[name]
		if !d.first && !d.takeover && !d.operating {
			t.Errorf("failpoint %s killed nothing", name)
			continue
		}
		reached++
		cut, living = cut+d.cut, living+d.living
		for n, yes := range map[*int]bool{&first: d.first, &takeover: d.takeover, &operating: d.operating} {
			if yes {
				*n++
			}
		}
	}
	t.Logf("%d of %d failpoints killed with an operation in flight: %d at a first start, %d while sandboxes were taken over, %d in operation; "+
		"%d calls were cut, %d sandboxes lived through a death", reached, len(names), first, takeover, operating, cut, living)
}

// crashAt runs one case.
func crashAt(t *testing.T, name, layout string, hub *hub) (d deaths) {
	args := append([]string{"--image-alias", imageRef + "=oci:" + layout}, hub.flags(t)...)
	if strings.Contains(name, "runner-d") {
		// A runner with sandboxes to delete. Most cases have one runner, because that starts in half the time.
		args = append(args, "--runner", "local", "--runner", spareRunner)
	}
	m := newMachine(t, name, args...)
	w := newWork(m, hub)
	inShim := strings.HasPrefix(name, atShim)
	died := func(reached *bool) {
		*reached = true
		d.cut += int(m.cut.Swap(0))
		d.living += w.living()
	}

	// Where shims die, the probes of runtimes at a start do too: there the gate opens later.
	if !inShim {
		m.open()
	}
	if !m.start() {
		died(&d.first)
		m.mustStart()
	}
	m.shut()
	w.prepare()

	m.cut.Store(0)
	if !inShim {
		m.open()
	}
	if !m.start() {
		died(&d.takeover)
		m.mustStart()
	}
	m.open()
	if !slices.Contains(atStartOnly, name) {
		w.operate()
		switch {
		case !m.hit() && os.Getenv(envTurn) == "":
			t.Fatalf("the failpoint was not reached in operation: %s", w)
		case !inShim && m.hit() && !m.until(m.exited):
			t.Fatalf("the failpoint was hit and the server did not die")
		}
		died(&d.operating)
		if d.cut+d.living == 0 {
			t.Errorf("nothing was in flight")
		}
	}
	m.shut()
	if inShim && m.exited() {
		t.Fatalf("the server died with a shim")
	}
	if !inShim {
		m.end(syscall.SIGKILL)
		m.mustStart()
	}
	w.verify()
	return d
}

// newImage makes an image with a program that does nothing, and a file; and a registry with others that have the program.
func newImage(t *testing.T) (*imagetest.Layout, *hub) {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "wait")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Hour) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	file := imagetest.File("bin/wait", string(data))
	file.Mode = 0o755
	layers := [][]byte{
		imagetest.Tar(t, imagetest.Dir("bin"), file), imagetest.Tar(t, imagetest.Dir("srv"), imagetest.File("srv/data", imageText)),
	}
	layout := imagetest.New(t)
	layout.Add(imagetest.Image{Layers: layers, Config: v1.Config{Cmd: []string{"/bin/wait"}}})
	return layout, newHub(t, layers[0])
}

func (w *work) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%d launches, %d other calls, %d writes of configuration", len(w.lives), w.calls, w.config.calls)
}
