package shim

import (
	"context"
	"os"
	"path/filepath"
)

// Status is what a state directory tells.
type Status string

// The statuses; see the package documentation.
const (
	// StatusNone: nothing was ever started here.
	StatusNone     Status = "NONE"
	StatusStarting Status = "STARTING"
	// StatusPrepared: it waits for Client.Begin.
	StatusPrepared Status = "PREPARED"
	StatusRunning  Status = "RUNNING"
	StatusStopping Status = "STOPPING"
	// StatusExited: the end was observed and is in State.Exit, or the start failed.
	StatusExited Status = "EXITED"
	// StatusLost: nobody is in charge and no end was recorded. Processes may be left: call Cleanup.
	StatusLost Status = "LOST"
)

// State is the answer of Inspect.
type State struct {
	Status Status
	// Record is nil when the shim had not come so far. Unreadable: it is nil because what is there cannot be read.
	Record     *Record
	Unreadable bool
	// Exit is set for StatusExited.
	Exit *Exit
	// Attended says that a shim, or its runtime, holds the state directory.
	Attended bool
}

// Inspect reads a state directory, without asking the shim. It never guesses: without a recorded end there is none.
func Inspect(dir string) (State, error) {
	// The order matters. Whoever holds the lock may write an end and let go at any moment: the lock is looked at first, so
	// that a free lock means that the records read afterwards are final.
	held, err := attended(dir)
	if err != nil {
		return State{}, err
	}
	s := State{Attended: held}
	if s.Exit, err = ReadExit(dir); err != nil {
		return State{}, err
	}
	var broken error
	if s.Record, broken = ReadRecord(dir); broken != nil {
		s.Record, s.Unreadable = nil, true // A record that cannot be read says nothing; the lock and the exit record still do.
	}
	s.Status = statusOf(s, hasConfig(dir))
	return s, nil
}

func statusOf(s State, configured bool) Status {
	switch {
	case s.Exit != nil:
		return StatusExited
	case !s.Attended && (s.Record != nil || configured):
		return StatusLost
	case !s.Attended:
		return StatusNone
	case s.Record != nil && s.Record.Phase == PhasePrepared:
		return StatusPrepared
	case s.Record != nil && s.Record.Phase == PhaseRunning:
		return StatusRunning
	case s.Record != nil && s.Record.Phase == PhaseStopping:
		return StatusStopping
	default:
		return StatusStarting
	}
}

func hasConfig(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, configName))
	return err == nil
}

// waitRecord answers Wait from the state directory once the shim cannot be asked: it waits until nobody is in charge, so
// that an end which is being recorded is not missed.
func waitRecord(ctx context.Context, dir string, cause error) (Exit, error) {
	for {
		s, err := Inspect(dir)
		switch {
		case err != nil:
			return Exit{}, err
		case s.Exit != nil:
			return *s.Exit, nil
		case s.Status == StatusLost:
			e := Exit{Version: ConfigVersion, Reason: ReasonLost, Message: ErrLost.Error()}
			if s.Record != nil {
				e.ID, e.StartedAt = s.Record.ID, s.Record.StartedAt
			}
			return e, ErrLost
		case s.Status == StatusNone:
			return Exit{}, errNotRunning(cause)
		}
		if !pause(ctx, lockPoll) {
			return Exit{}, contextFault(ctx.Err())
		}
	}
}
