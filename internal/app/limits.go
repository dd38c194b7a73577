package app

import (
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/port"
)

// Limits are how much of the API is open at a time.
type Limits = server.Limits

const (
	// DefaultMaxConnections holds when nothing else is said.
	DefaultMaxConnections = port.DefaultMaxConnections
	// DefaultMaxCalls does too.
	DefaultMaxCalls = edge.DefaultMaxCalls
)

// limits are those of the configuration, and of the process: connections have half of its descriptors at most, so that sandboxes and the
// database are never without one because of somebody who connects.
func (a *app) limits() Limits {
	l := a.cfg.Limits
	if l.Connections == 0 {
		l.Connections = DefaultMaxConnections
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return l
	}
	if half := int(min(files.Cur/2, 1<<30)); l.Connections > half {
		a.log.Warn("fewer connections are taken than asked for: they get half of the descriptors that this process may have", "asked", l.Connections, "taken", half, "descriptors", files.Cur)
		l.Connections = max(1, half)
	}
	return l
}
