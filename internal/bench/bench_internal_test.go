package bench

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// TestFigure: percentiles are times that were measured, and what was lost is counted and has none.
func TestFigure(t *testing.T) {
	var all times
	for i := 100; i > 0; i-- {
		all.add(time.Duration(i)*time.Millisecond, nil)
	}
	all.add(time.Hour, errors.New("broke"))
	all.add(time.Nanosecond, errors.New("broke again"))
	got := all.figure("x")
	want := Figure{Measure: "x", Count: 102, Lost: 2, P50: 50, P90: 90, P99: 99, Max: 100, FirstLoss: fault.From(errors.New("broke")).Error()}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var lost times
	lost.add(time.Millisecond, errors.New("broke"))
	if got := lost.figure("x"); got.Count != 1 || got.Lost != 1 || got.Max != 0 {
		t.Errorf("of one that was lost: %+v", got)
	}
	var one times
	one.add(time.Millisecond, nil)
	if got := one.figure("x"); got.P50 != 1 || got.P99 != 1 {
		t.Errorf("of one: %+v", got)
	}
}

// TestRatio: rates are held against rates, times against times, and nothing against what was not measured.
func TestRatio(t *testing.T) {
	r := &run{figures: []Figure{{Measure: "time", P50: 2}, {Measure: "rate", P50: 2, Rate: 100}, {Measure: "nothing", Lost: 1, Count: 1}}}
	for _, c := range []struct {
		figure Figure
		of     string
		want   float64
	}{
		{Figure{P50: 3}, "time", 1.5},
		{Figure{P50: 3, Rate: 50}, "rate", .5},
		{Figure{P50: 3}, "nothing", 0},
		{Figure{P50: 3}, "absent", 0},
		{Figure{Lost: 1}, "time", 0},
	} {
		r.report(c.figure, c.of)
		if got := r.figures[len(r.figures)-1]; got.Ratio != c.want || (got.Of != "") != (c.want > 0) {
			t.Errorf("%+v of %s: %+v", c.figure, c.of, got)
		}
	}
}

// TestTogether: all are there before one begins, each is counted, and a run that ended has no figure.
func TestTogether(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{}
	met := make(chan struct{}, 8)
	f, err := r.together(ctx, "x", 8, func() error {
		met <- struct{}{}
		for len(met) < cap(met) {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if err != nil || f.Count != 8 || f.Lost != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	cancel()
	if _, err := r.together(ctx, "x", 1, func() error { return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("of a run that ended: %v", err)
	}
	if _, err := r.each(ctx, "x", 1, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("of a run that ended: %v", err)
	}
}

// TestMeasures: names are words, and each is there once.
func TestMeasures(t *testing.T) {
	var names []string
	for _, m := range Measures() {
		if m.Short == "" || slices.Contains(names, m.Name) {
			t.Errorf("%+v", m)
		}
		names = append(names, m.Name)
	}
}
