// Package bench measures a server as its clients see it, over the network and through the published protocol. What the machine does
// without Berm is measured beside it, in the same run, so that a figure can be read as a ratio where machines differ.
//
// Nothing that failed counts as fast: calls that ended otherwise than they should are counted as lost, and have no time.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// Config is what is measured, and how much of it.
type Config struct {
	Client *client.Client
	// Launch is how sandboxes are launched. Each is idle, and has Tag.
	Launch *v1beta2pb.StartSandboxRequest
	// Count is how many calls are made one after another, AtOnce how many together.
	Count, AtOnce int
	// Size is what one stream carries, in bytes, Streams how many streams there are at once.
	Size    int64
	Streams int
	// Idle is how many streams are held open without traffic.
	Idle int
	// Progress is told what is measured next.
	Progress func(string)
}

// Tag is on every sandbox of a measurement, so that what a run that was killed has left behind is found.
const Tag = "berm-bench"

// Measure is a part of a run.
type Measure struct {
	Name, Short string
	run         func(*run, context.Context) error
}

// Measures returns all of them, in the order in which they are made.
func Measures() []Measure {
	return []Measure{
		{"exec", "the round trip of a command that does nothing, alone and at once", (*run).execs},
		{"start", "from the launch to the first output of a command, one after another", (*run).starts},
		{"burst", "the same, all at once", (*run).burst},
		{"stream", "what commands can write to their caller, one stream and many", (*run).streams},
		{"file", "a file written into a sandbox and read back", (*run).files},
		{"idle", "the memory of the server with streams that carry nothing", (*run).idle},
		{"list", "a page of 100 sandboxes, of those that are there", (*run).lists},
	}
}

// Figure is one result.
type Figure struct {
	Measure string `json:"measure"`
	// Count is how many calls, sandboxes or streams were measured. Lost had no result, or not the right one.
	Count int `json:"count"`
	Lost  int `json:"lost"`
	// P50 to Max are times in milliseconds.
	P50 float64 `json:"p50Ms,omitempty"`
	P90 float64 `json:"p90Ms,omitempty"`
	P99 float64 `json:"p99Ms,omitempty"`
	Max float64 `json:"maxMs,omitempty"`
	// Rate is an amount of Unit.
	Rate float64 `json:"rate,omitempty"`
	Unit string  `json:"unit,omitempty"`
	// Ratio is the median, or the rate, by that of the figure Of, which was measured in the same run.
	Ratio float64 `json:"ratio,omitempty"`
	Of    string  `json:"of,omitempty"`
	// FirstLoss says what became of the first that was lost.
	FirstLoss string `json:"firstLoss,omitempty"`
}

// run is a run.
type run struct {
	Config
	figures []Figure
	// made are the sandboxes that are still to be removed.
	mu   sync.Mutex
	made []string
}

// Run makes the measures named, all when none is, and removes the sandboxes that it has made, also when ctx ends. The figures that there were until
// an error are returned with it.
func Run(ctx context.Context, cfg Config, names ...string) (figures []Figure, err error) {
	r := &run{Config: cfg}
	defer func() { err = errors.Join(err, r.clean(ctx)); figures = r.figures }()
	for _, m := range Measures() {
		if len(names) > 0 && !slices.Contains(names, m.Name) {
			continue
		}
		r.Progress(m.Name + ": " + m.Short)
		if err := m.run(r, ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil, nil
}

// times are the results of calls, made at once or one after another.
type times struct {
	mu   sync.Mutex
	took []time.Duration
	lost int
	err  error
}

// add counts a call that took so long, or was lost.
func (t *times) add(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.lost++
		if t.err == nil {
			t.err = err
		}
		return
	}
	t.took = append(t.took, took)
}

// timed counts one call of fn.
func (t *times) timed(fn func() error) {
	began := time.Now()
	err := fn()
	t.add(time.Since(began), err)
}

// figure sums up.
func (t *times) figure(name string) Figure {
	f := Figure{Measure: name, Count: len(t.took) + t.lost, Lost: t.lost}
	if t.err != nil {
		f.FirstLoss = fault.From(t.err).Error()
	}
	if len(t.took) == 0 {
		return f
	}
	slices.Sort(t.took)
	// The nearest rank: a percentile is a time that was measured.
	at := func(percent int) float64 { return millis(t.took[max((len(t.took)*percent+99)/100, 1)-1]) }
	f.P50, f.P90, f.P99, f.Max = at(50), at(90), at(99), millis(t.took[len(t.took)-1])
	return f
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// report adds a figure, against that of another name if there is one.
func (r *run) report(f Figure, of string) {
	for _, other := range r.figures {
		if other.Measure != of {
			continue
		}
		if f.Rate > 0 && other.Rate > 0 {
			f.Ratio, f.Of = f.Rate/other.Rate, of
		} else if f.P50 > 0 && other.P50 > 0 {
			f.Ratio, f.Of = f.P50/other.P50, of
		}
	}
	r.figures = append(r.figures, f)
}

// has says whether a figure is there.
func (r *run) has(name string) bool {
	return slices.ContainsFunc(r.figures, func(f Figure) bool { return f.Measure == name })
}

// each calls fn count times, one after another, until the run ends.
func (r *run) each(ctx context.Context, name string, count int, fn func() error) (Figure, error) {
	var t times
	for range count {
		if err := ctx.Err(); err != nil {
			return Figure{}, err
		}
		t.timed(fn)
	}
	return t.figure(name), nil
}

// together calls fn count times at once.
func (r *run) together(ctx context.Context, name string, count int, fn func() error) (Figure, error) {
	var t times
	var group sync.WaitGroup
	gate := make(chan struct{})
	for range count {
		group.Go(func() {
			<-gate
			t.timed(fn)
		})
	}
	close(gate)
	group.Wait()
	return t.figure(name), ctx.Err()
}
