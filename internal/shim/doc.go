// Package shim is how the server starts, finds and talks to the shim of a sandbox: one small host-side process that runs
// the OCI runtime, waits for the sandbox's process 1, records how it ended, and outlives the server.
//
// Start makes a shim, Connect finds a running one again, Inspect says what a state directory tells without asking anyone,
// and Cleanup removes what a dead shim left behind.
//
// # State directory
//
// Each sandbox has one, mode 0700, made by the server on the host and never visible inside the sandbox:
//
//	config.json   what to run (Config). Written by Start before the shim exists; never changes.
//	lock          held with flock from before the shim is forked until it and the runtime it started are gone. Whoever can
//	              take it knows that nobody is in charge.
//	begin.json    what a prepared sandbox was given to run (Begin). Written by Client.Begin, before it asks; never changes.
//	state.json    how far the sandbox is (Record).
//	exit.json     how it ended (Exit). Exists if and only if the end was observed, or the start failed.
//	shim.sock     where the shim listens (package wire), mode 0600.
//	output/       what the main process printed (package spool).
//	shim.log      what the shim itself had to say.
//
// What the runtime writes (its pid file and its log) is beside the bundle.
//
// All are replaced by a rename, so that a process killed at any moment leaves the old or the new one. exit.json is also
// flushed to the disk, file and directory, before the end is told on any connection: it is the only record that still means
// something after the machine itself went down, when every other sandbox is lost anyway. Its room is taken at the start.
//
// # States
//
//	state.json   exit.json   lock    Inspect
//	none         none        held    Starting
//	created      none        held    Starting
//	prepared     none        held    Prepared
//	running      none        held    Running
//	stopping     none        held    Stopping
//	any          present     any     Exited
//	any, none    none        free    Lost; None when there is no config.json either
//
// Removing the state directory of a sandbox that runs ends it: nobody could find it again.
//
// A sandbox is lost when its shim was killed: its end was not observed, so there is no exit code, ever. Without its shim the
// init ends the sandbox by itself; Cleanup makes sure of it.
//
// # The bundle
//
// The server makes the OCI bundle, with all mounts in the main mount namespace. Its config.json must have process.args =
// InitArgs(path of the berm-shim binary inside the sandbox), process.terminal false, and an environment without Go's own
// variables (best: none but PATH; what commands get is Config.Env). File descriptor 3 of process 1 is the shim's socket;
// nothing else is shared. It sets no resource limits: the init does (InitArgs).
//
// Where the shim makes the user namespace (Config.IDs), linux.namespaces names UserNamespace(bundle) as its path, and the mappings are
// those of Config.IDs; where it enters the network (Config.Network), linux.namespaces has no network at all.
//
// The binary is bound read-only from a file that belongs to the host's root and has BinaryMode: one that the sandbox may
// execute and not read. The kernel then keeps process 1 closed to its neighbours from its first instruction on, and gives
// its directory in /proc to the host's root, although it has the same user as they. A seccomp filter should refuse prlimit64
// for process 1, which nothing else can.
package shim
