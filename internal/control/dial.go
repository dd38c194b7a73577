package control

import (
	"context"
	"sync"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Dial connects to a TCP port of a sandbox, from within. While the sandbox starts it waits, within ctx. The connection is cut when ctx
// ends, and counts as traffic for as long as it is open.
func (s *Service) Dial(ctx context.Context, p core.Principal, id string, port int32) (backend.Conn, error) {
	if err := s.allow(ctx, p, "Dial"); err != nil {
		return nil, err
	}
	if err := checkPort(port); err != nil {
		return nil, err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	over := s.busy(id)
	c, err := link.Dial(ctx, id, uint16(port))
	if err != nil {
		over()
		return nil, s.linkFault(ctx, p.OrgID, id, err)
	}
	return &busyConn{Conn: c, over: sync.OnceFunc(over)}, nil
}

func checkPort(port int32) error {
	if port < 1 || port > 65535 {
		return fault.Invalidf(fault.ReasonInvalidRequest, "invalid port").WithField("port", "is %d, must be from 1 to 65535", port)
	}
	return nil
}

// busyConn is traffic until it is closed.
type busyConn struct {
	backend.Conn
	over func()
}

func (c *busyConn) Close() error {
	defer c.over()
	return c.Conn.Close()
}
