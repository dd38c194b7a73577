package local

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// shimPath is the shim that the tests use: built once, from this tree, so that no test runs an old one.
var shimPath string

// portServerPath is the program that listens in sandboxes.
var portServerPath string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(crashDir) != "" {
		if err := crashScenario(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if inside, code := networktest.Enter(); !inside {
		os.Exit(code)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests of the local backend make sandboxes: they need root")
		return 1
	}
	dir, err := os.MkdirTemp("", "berm-shim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shimPath = filepath.Join(dir, shimName)
	portServerPath = filepath.Join(dir, "port-server")
	for path, pkg := range map[string]string{shimPath: "cmd/berm-shim", portServerPath: "internal/backend/backendtest/ports/cmd/port-server"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/bermhq/berm/"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
