//go:build !race

package shim_test

var (
	buildFlags = []string{}
	buildEnv   = []string{"CGO_ENABLED=0"}
	initEnv    = []string{"PATH=/usr/bin"}
)

// tightMemory is a limit that init and a shell fit into, and little more.
const tightMemory = 12 << 20
