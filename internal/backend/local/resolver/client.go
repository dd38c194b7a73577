package resolver

import (
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/bermhq/berm/internal/core/egress"
)

// Stats counts what became of the questions of one sandbox.
type Stats struct {
	// Questions were taken on, Answered were answered as the upstream, or the runner, said.
	Questions, Answered int64
	// Denied are questions for names that may not be looked up, Filtered are addresses that were taken out of answers.
	Denied, Filtered int64
	// Limited are questions that were over a limit, those dropped included; Failed are those that no server answered; Malformed were no
	// questions, or of types that are not implemented.
	Limited, Failed, Malformed int64
	// Denials are the latest names that were denied, the newest first.
	Denials []Denial
}

// Denial is a name that was denied, or that all addresses of were.
type Denial struct {
	Name, Why string
	Count     int64
	Last      time.Time
}

// client is what is kept of one sandbox. Its size is bounded.
type client struct {
	// questions and connections are slots of this sandbox.
	questions, connections chan struct{}
	rate, texts            *rate.Limiter

	mu     sync.Mutex
	counts Stats
	// known are names that were asked for, names limits those that were not.
	known     *lru.LRU[string, struct{}]
	names     *rate.Limiter
	perMinute int
}

func newClient() *client {
	known, err := lru.NewLRU[string, struct{}](KnownNames, nil)
	if err != nil {
		panic(err) // of a size that is not positive: it is a constant
	}
	return &client{
		questions: make(chan struct{}, MaxSandboxQuestions), connections: make(chan struct{}, MaxSandboxConnections),
		rate: rate.NewLimiter(QuestionsPerSecond, QuestionBurst), texts: rate.NewLimiter(rate.Limit(TextsPerMinute)/60, TextsPerMinute), known: known,
	}
}

// count changes the counters.
func (c *client) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.counts)
}

func (c *client) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.counts
	s.Denials = slices.Clone(s.Denials)
	return s
}

// deny notes a denied name.
func (c *client) deny(name, why string, now time.Time) {
	c.count(func(s *Stats) {
		d := Denial{Name: name, Why: why}
		if i := slices.IndexFunc(s.Denials, func(d Denial) bool { return d.Name == name }); i >= 0 {
			d.Count = s.Denials[i].Count
			s.Denials = slices.Delete(s.Denials, i, i+1)
		}
		d.Count++
		d.Last = now
		s.Denials = slices.Insert(s.Denials, 0, d)
		s.Denials = s.Denials[:min(len(s.Denials), KeptDenials)]
	})
}

// mayAsk takes what asking for a name costs, and reports whether there was enough.
func (c *client) mayAsk(p *egress.Policy, look egress.Lookup, name string, now time.Time) bool {
	perMinute := NamesPerMinute
	switch {
	case look.Pin && !strings.HasPrefix(p.Rules[look.Rule].Name, "*"):
		return true
	case look.Pin:
		perMinute = PatternNamesPerMinute
	case p.Type == egress.Allowlist:
		perMinute = FilteredNamesPerMinute
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known.Get(name); ok {
		return true
	}
	if c.perMinute != perMinute {
		c.perMinute = perMinute
		c.names = rate.NewLimiter(rate.Limit(perMinute)/60, perMinute)
	}
	if !c.names.AllowN(now, 1) {
		return false
	}
	c.known.Add(name, struct{}{})
	return true
}

// take takes a slot, or reports that there is none.
func take(slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// takeBoth takes one slot of each, or none.
func takeBoth(a, b chan struct{}) bool {
	if !take(a) {
		return false
	}
	if !take(b) {
		<-a
		return false
	}
	return true
}
