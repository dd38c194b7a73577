package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
)

// ShrinkFeed makes the feed of a service forget all but the last n changes.
func ShrinkFeed(s *Service, n int) { s.feed.size = n }

// LookAtDeployments does now what is done every deploymentBeat.
func LookAtDeployments(ctx context.Context, s *Service) { s.lookAtDeployments(ctx) }

// HoldUnder has a sandbox end with its lease, as when it is entered.
func HoldUnder(s *Service, row *core.Sandbox) { s.holdUnder(row) }
