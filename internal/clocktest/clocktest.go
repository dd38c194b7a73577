// Package clocktest is the clock of a machine whose time is set while a program runs: what it says of the day jumps, and how long
// something takes, by what it says, does not. time.Now is like that, and a test cannot set the machine's.
package clocktest

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock says the time. Its methods are safe for concurrent use.
type Clock struct {
	began time.Time
	by    atomic.Int64
}

// New returns a clock that says what time.Now does, also within a bubble of testing/synctest, whose times know nothing of set clocks.
func New() *Clock {
	c := &Clock{began: time.Now()}
	first := c.Now()
	c.Set(-time.Hour)
	if second := c.Now(); second.Sub(first) < 0 || second.Sub(first) > time.Minute || first.Unix()-second.Unix() < 3500 {
		panic(fmt.Sprintf("times of this version of Go are made in another way: %v, then %v", first, second))
	}
	c.Set(time.Hour)
	return c
}

// Set sets the clock forward, or back.
func (c *Clock) Set(by time.Duration) { c.by.Add(int64(by)) }

// Now returns the time of day as it is set, with how long the clock runs.
func (c *Clock) Now() time.Time {
	runs := time.Since(c.began)
	day := c.began.Round(0).Add(runs + time.Duration(c.by.Load()))
	return made(day, runs)
}

// parts is a time.Time as it has been since Go 1.9: a flag, seconds since 1885 and nanoseconds, then the monotonic clock.
type parts struct {
	wall uint64
	ext  int64
	loc  *time.Location
}

func made(day time.Time, runs time.Duration) (t time.Time) {
	const monotonic, secondBits = 1 << 63, 30
	since1885 := day.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	p := parts{wall: monotonic | uint64(since1885)<<secondBits | uint64(day.Nanosecond()), ext: int64(runs) + 1, loc: time.Local} //nolint:gosec // after 1885
	*(*parts)(unsafe.Pointer(&t)) = p                                                                                             //nolint:gosec // New checks that it is so
	return t
}
