package app

import "context"

// Run serves until ctx ends.
func Run(ctx context.Context, _ Config) error {
	<-ctx.Done()
	return nil
}
