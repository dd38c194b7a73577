package control

import (
	"context"

	"github.com/bermhq/berm/internal/store"
)

// One process of a runner is connected to all servers. Each writes which it has a line to, so that a second process is kept out by all.

// HoldLine notes that a process of a runner is connected here. It returns the server that another process of it is connected to, "" for
// none.
func (s *Service) HoldLine(ctx context.Context, runnerUUID, instance string) (other string, err error) {
	if !s.shares() {
		return "", nil
	}
	s.lines.Lock()
	defer s.lines.Unlock()
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		other, _, err = tx.HoldLine(ctx, runnerUUID, s.self, instance)
		return err
	})
	if err == nil && other == "" {
		delete(s.servers.ended, runnerUUID)
	}
	return other, err
}

// DropLine notes that no process of a runner is connected here any more. What cannot be written now is written with a later beat: until
// then the runner is kept out elsewhere.
func (s *Service) DropLine(runnerUUID string) {
	if !s.shares() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	s.lines.Lock()
	defer s.lines.Unlock()
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.DropLine(ctx, runnerUUID, s.self) }); err != nil {
		s.servers.ended[runnerUUID] = true
		s.log.WarnContext(ctx, "it could not be written that the line to a runner has ended", "runner", runnerUUID, "error", err)
	}
}

// dropEnded writes what DropLine could not.
func (s *Service) dropEnded(ctx context.Context) error {
	s.lines.Lock()
	defer s.lines.Unlock()
	if len(s.servers.ended) == 0 {
		return nil
	}
	err := s.store.Update(ctx, func(tx store.Tx) error {
		for runnerUUID := range s.servers.ended {
			if err := tx.DropLine(ctx, runnerUUID, s.self); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		clear(s.servers.ended)
	}
	return err
}
