package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bermhq/berm/internal/bench"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of `berm bench`. It is for servers of one's own: what it asks for, it asks for at once.
const (
	maxBenchCount  = 100_000
	maxBenchAtOnce = 10_000
	// maxBenchIdle is what one connection holds.
	maxBenchIdle = 1000
	minBenchSize = 1 << 20
	maxBenchSize = 1 << 40
)

func (s *session) benchCmd() *cobra.Command {
	var l launchFlags
	cfg := bench.Config{}
	var size string
	c := s.outputFlag(&cobra.Command{
		Use:   "bench [flags] [" + strings.Join(benchNames(), "|") + "]...",
		Short: "Measure a server as its clients see it",
		Long: `Measure a server as its clients see it, with sandboxes of its own, which it removes: everything, or what is named.

` + benchText() + `
What this machine does without Berm is measured in the same run, and RATIO is against that. Calls that failed are lost, have no time, and
make the command end with 1. idle needs the token of an operator, who may read the server's memory. Sandboxes have the tag ` + bench.Tag + `.`,
		Example: `  berm bench exec start
  berm bench stream --size 4Gi --streams 16
  berm bench burst --at-once 100 --cpu 100m --memory 64Mi -o json`,
		Args: args(0, -1, "what to measure"),
		PreRunE: func(_ *cobra.Command, a []string) (err error) {
			for _, name := range a {
				if !slices.Contains(benchNames(), name) {
					return fault.Invalidf("USAGE", "%q cannot be measured", name).WithHint("Name any of %s.", strings.Join(benchNames(), ", "))
				}
			}
			if cfg.Launch, err = l.request(s); err != nil {
				return err
			}
			return benchLimits(&cfg, size)
		},
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			cfg.Client, cfg.Progress = c, func(next string) { fmt.Fprintln(s.Err, next) }
			figures, err := bench.Run(ctx, cfg, a...)
			if len(figures) > 0 {
				if err := s.emit(figures, func() table { return benchTable(figures) }); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return benchLost(figures)
		}),
	})
	l.bind(c)
	f := c.Flags()
	f.IntVar(&cfg.Count, "count", 100, "calls, launches and pages that are measured one after another")
	f.IntVar(&cfg.AtOnce, "at-once", 50, "commands, and launches, that are measured at once")
	f.IntVar(&cfg.Streams, "streams", 16, "streams of output that are measured at once")
	f.IntVar(&cfg.Idle, "idle-streams", 1000, "streams that carry nothing")
	f.StringVar(&size, "size", "256Mi", "what a stream, or a file, carries")
	return c
}

func benchNames() []string {
	var names []string
	for _, m := range bench.Measures() {
		names = append(names, m.Name)
	}
	return names
}

func benchText() string {
	var b strings.Builder
	for _, m := range bench.Measures() {
		fmt.Fprintf(&b, "  %-8s %s\n", m.Name, m.Short)
	}
	return b.String()
}

func benchLimits(cfg *bench.Config, size string) error {
	for _, n := range []struct {
		flag       string
		value, max int
	}{{"count", cfg.Count, maxBenchCount}, {"at-once", cfg.AtOnce, maxBenchAtOnce}, {"streams", cfg.Streams, maxBenchAtOnce}, {"idle-streams", cfg.Idle, maxBenchIdle}} {
		if n.value < 1 || n.value > n.max {
			return fault.Invalidf("USAGE", "--%s %d is not from 1 to %d", n.flag, n.value, n.max)
		}
	}
	q, err := resource.ParseQuantity(size)
	if err != nil || q.Value() < minBenchSize || q.Value() > maxBenchSize {
		return fault.Invalidf("USAGE", "--size %q is not an amount from 1Mi to 1Ti", size)
	}
	cfg.Size = q.Value()
	return nil
}

func benchTable(figures []bench.Figure) table {
	t := table{head: []string{"MEASURE", "N", "LOST", "P50", "P90", "P99", "MAX", "RATE", "RATIO", "OF"}}
	for _, f := range figures {
		row := []string{f.Measure, strconv.Itoa(f.Count), strconv.Itoa(f.Lost), "", "", "", "", "", "", f.Of}
		if f.Max > 0 {
			for i, ms := range []float64{f.P50, f.P90, f.P99, f.Max} {
				row[3+i] = fmt.Sprintf("%.1f ms", ms)
			}
		}
		if f.Unit != "" {
			row[7] = fmt.Sprintf("%.0f %s", f.Rate, f.Unit)
		}
		if f.Of != "" {
			row[8] = fmt.Sprintf("%.2f", f.Ratio)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// benchLost is an error when anything was lost.
func benchLost(figures []bench.Figure) error {
	for _, f := range figures {
		if f.Lost > 0 {
			return fault.New(fault.Internal, "BENCH_LOST", "%s: %d of %d were lost; the first: %s", f.Measure, f.Lost, f.Count, f.FirstLoss)
		}
	}
	return nil
}
