package soak

import (
	"fmt"
	"sync/atomic"
)

// tally counts what was done.
type tally struct {
	rounds, kills, sandboxes, commands, bytes atomic.Int64
	// resumed are streams that were taken up again, repeated are calls made again because their answer did not come, unknown are commands of the
	// published stream whose end was not told, which must be an error.
	resumed, repeated, unknown atomic.Int64
}

// String is a line of figures.
func (t *tally) String() string {
	return fmt.Sprintf("%d rounds, %d kills: %d sandboxes, %d commands, %d bytes; %d streams taken up again, %d calls repeated, %d ends unknown and said so",
		t.rounds.Load(), t.kills.Load(), t.sandboxes.Load(), t.commands.Load(), t.bytes.Load(), t.resumed.Load(), t.repeated.Load(), t.unknown.Load())
}
