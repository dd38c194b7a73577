package control

import "context"

// ShrinkFeed makes the feed of a service forget all but the last n changes.
func ShrinkFeed(s *Service, n int) { s.feed.size = n }

// LookAtDeployments does now what is done every deploymentBeat.
func LookAtDeployments(ctx context.Context, s *Service) { s.lookAtDeployments(ctx) }
