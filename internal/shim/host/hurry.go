package host

import "time"

const (
	// killPatience is how long the init has for ending a command that its client gave up. Then it is hurried.
	killPatience = time.Second
	// mostHurry is how long the CPU limit is lifted for that at most, and hurryPause how long it then holds in any case: nobody
	// gains time worth having by letting commands be given up.
	mostHurry  = 5 * time.Second
	hurryPause = time.Minute
)

// seeKilled sees to it that a command which its client gave up ends: over is closed then. A sandbox whose processes have used
// its CPU time up, and far more of it inside the kernel, has none for the init either, which could not end them for minutes.
// Then the limit is lifted for as long as that takes.
func (s *sandbox) seeKilled(over <-chan struct{}) {
	if wait(over, killPatience); !isClosed(over) {
		s.hurry(over)
	}
}

// hurry lifts the CPU limit until over is closed, within bounds. One at a time, and not after a kill, which lifts it for good.
func (s *sandbox) hurry(over <-chan struct{}) {
	s.hurrying.Lock()
	defer s.hurrying.Unlock()
	if time.Since(s.hurried) < hurryPause {
		return
	}
	putBack, err := s.cfg.Cgroup.LiftCPU()
	if err != nil {
		s.logf("lift the CPU limit to end a command: %v", err)
		return
	}
	s.logf("a command could not be ended for want of CPU time: its limit is lifted for a moment")
	wait(over, mostHurry)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return
	}
	if err := putBack(); err != nil {
		s.logf("put the CPU limit back: %v", err)
	}
	s.hurried = time.Now()
}
