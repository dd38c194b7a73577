package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// ShrinkFeed makes the feed of a service forget all but the last n changes.
func ShrinkFeed(s *Service, n int) { s.feed.size = n }

// LookAtDeployments does now what is done every deploymentBeat.
func LookAtDeployments(ctx context.Context, s *Service) { s.lookAtDeployments(ctx) }

// HoldUnder has a sandbox end with its lease, as when it is entered.
func HoldUnder(s *Service, row *core.Sandbox) { s.holdUnder(row) }

// WriteExecStdinWithin is WriteExecStdin of a command that has less time to read.
func WriteExecStdinWithin(ctx context.Context, s *Service, p core.Principal, sandbox, id string, data []byte, wait time.Duration) error {
	_, err := s.writeExecStdin(ctx, p, sandbox, id, -1, data, false, wait)
	return err
}

// FillExecRead reads an attachment as ReadExec does.
func FillExecRead(a backend.Attachment, most int) (ExecRead, error) {
	var out ExecRead
	err := out.fill(a, most, false, func() bool { return false })
	return out, err
}
