package host

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// pauseTimeout is how long processes may take to stand still. Those that do not by then go on.
const pauseTimeout = 10 * time.Second

func errPaused() *wire.Error { return wire.Errorf(wire.CodePaused, "the sandbox is paused") }

// paused reports whether the sandbox is frozen.
func (s *sandbox) paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.record.PausedAt.IsZero()
}

// answerPause answers a pause or a resume.
func (s *sandbox) answerPause(c *client, f func() *wire.Error) {
	if !isClosed(s.running) || isClosed(s.ended) {
		c.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox is not running"))
		return
	}
	if werr := f(); werr != nil {
		c.fail(werr)
		return
	}
	c.ok(nil)
}

// pause freezes every process of the sandbox. A stop that comes meanwhile counts for more: then the sandbox goes on, to end.
func (s *sandbox) pause() *wire.Error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if s.paused() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), pauseTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	failpoint.Hit(failBeforeFreeze)
	if err := s.cfg.Cgroup.Freeze(ctx); err != nil {
		if isClosed(s.stop) {
			return errStopping()
		}
		return wire.Errorf(wire.CodeInternal, "the sandbox could not be paused: %v", err)
	}
	failpoint.Hit(failAfterFreeze)
	if werr := s.recordPause(time.Now().UTC()); werr != nil {
		if err := s.cfg.Cgroup.Thaw(); err != nil {
			s.logf("thaw a sandbox that could not be paused: %v", err)
		}
		return werr
	}
	failpoint.Hit(failAfterPauseRecord)
	return nil
}

func errStopping() *wire.Error {
	return wire.Errorf(wire.CodeNotRunning, "the sandbox is being stopped")
}

// resume lets the sandbox go on, if it is paused.
func (s *sandbox) resume() *wire.Error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if !s.paused() {
		return nil
	}
	if s.onDisk() {
		if isClosed(s.stop) { // It ends where it is, or has.
			return errStopping()
		}
		return s.recall()
	}
	if err := s.cfg.Cgroup.Thaw(); err != nil {
		return wire.Errorf(wire.CodeInternal, "the sandbox could not be resumed: %v", err)
	}
	failpoint.Hit(failAfterThaw)
	return s.recordPause(time.Time{})
}

// recordPause writes down that the sandbox is paused since at, or, when at is zero, that it is not.
func (s *sandbox) recordPause(at time.Time) *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case at.IsZero():
	case s.stopping:
		return errStopping()
	case s.over:
		return wire.Errorf(wire.CodeNotRunning, "the sandbox has ended")
	}
	before := s.record.PausedAt
	s.record.PausedAt = at
	err := shim.WriteRecord(s.cfg.Dir, s.record)
	if err != nil && !at.IsZero() {
		s.record.PausedAt = before
		return wire.Errorf(wire.CodeInternal, "record that the sandbox is paused: %v", err)
	}
	if err != nil { // It runs, and this process knows; after it nobody would.
		s.logf("record that the sandbox was resumed: %v", err)
	}
	return nil
}
