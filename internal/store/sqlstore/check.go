package sqlstore

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// checkArgs refuses texts that one engine would keep and the other not: those that are not UTF-8 or contain a NUL.
func checkArgs(args []any) error {
	for _, a := range args {
		if s, ok := a.(string); ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
			return fault.Invalidf(fault.ReasonFieldInvalid, "a text is not valid UTF-8 or contains a NUL byte: %.40q", s)
		}
	}
	return nil
}

// checks gathers what is wrong with a value that is to be written.
type checks struct{ fault *fault.Error }

func newChecks(what string) *checks {
	return &checks{fault: fault.Invalidf(fault.ReasonLimitExceeded, "%s cannot be stored", what)}
}

// required is a text that is looked up and must be there.
func (c *checks) required(path, text string) {
	if text == "" {
		c.fault.WithField(path, "is empty")
	}
	c.most(path, len(text), store.MaxText)
}

// text is one that may be empty.
func (c *checks) text(path, text string) { c.most(path, len(text), store.MaxText) }

func (c *checks) note(path, text string) { c.most(path, len(text), store.MaxNote) }

func (c *checks) most(path string, n, limit int) {
	if n > limit {
		c.fault.WithField(path, "has %d bytes, the limit is %d", n, limit)
	}
}

// times must have a stored form: the years 1678 to 2262, or none.
func (c *checks) times(path string, times ...time.Time) {
	first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)
	for _, t := range times {
		if !t.IsZero() && (t.Before(first) || t.After(last)) {
			c.fault.WithField(path, "%s is not between the years 1678 and 2262", t.UTC().Format(time.RFC3339))
		}
	}
}

func (c *checks) amounts(path string, a core.Amounts) {
	if a.CPUMillis < 0 || a.MemoryBytes < 0 || a.GPUs < 0 || a.Sandboxes < 0 {
		c.fault.WithField(path, "has a negative amount")
	}
}

func (c *checks) err() error {
	if len(c.fault.Fields) == 0 {
		return nil
	}
	return c.fault
}
