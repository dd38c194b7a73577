// Package initd is process 1 of a sandbox. It reaps, forwards signals, starts the main process and serves commands and
// file transfers over one socket that it inherited from the shim (package wire, over yamux). It opens no listener, follows
// no environment variable and reads no configuration file: all it knows comes over that socket.
//
// It runs with the same user, root directory and rights as the processes that it starts, so that nothing it does for a
// request could reach further than those processes can by themselves. What it has and they must not get is the socket:
// it is not dumpable, so that they can neither trace it nor open its descriptors through /proc.
//
// Descriptors: 0 is empty, 1 and 2 are for its own last words, 3 is the socket, 4 and 5 become the main process's
// output.
package initd
