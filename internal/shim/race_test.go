//go:build race

package shim_test

// Under the race detector, shim and init are built with it too: a race in the init ends it with code 66, one in the shim is
// found in its log.
var (
	buildFlags = []string{"-race"}
	buildEnv   = []string{"CGO_ENABLED=1"}
	initEnv    = []string{"PATH=/usr/bin", "GORACE=halt_on_error=1"}
)

// tightMemory is a limit that init and a shell fit into, and little more.
const tightMemory = 200 << 20
