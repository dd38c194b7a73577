package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// topAtOnce is how many sandboxes are asked about at the same time, topMost how many at all.
	topAtOnce = 8
	topMost   = 1000
)

func (s *session) topCmd() *cobra.Command {
	var tags, profiles, runners []string
	c := s.outputFlag(&cobra.Command{
		Use: "top", Short: "Show what running sandboxes use now, the busiest first", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			page, err := c.Gateway().List(ctx, &v1beta2pb.ListSandboxesRequest{Tags: tags, ProfileNames: profiles, RunnerIds: runners, PageSize: topMost})
			if err != nil {
				return err
			}
			all, err := usages(ctx, c, page.GetSandboxes())
			if err != nil {
				return err
			}
			return s.emitUsages(all)
		}),
	})
	f := c.Flags()
	f.StringArrayVar(&tags, "tag", nil, "only those with this tag, repeatable: all must be there")
	f.StringArrayVar(&profiles, "profile", nil, "only those of this profile, repeatable")
	f.StringArrayVar(&runners, "runner", nil, "only those on this runner, repeatable")
	return c
}

// usages asks for each sandbox, and returns those that use anything, the busiest first.
func usages(ctx context.Context, c *client.Client, list []*v1beta2pb.SandboxInfo) ([]*bermv1.Sandbox, error) {
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		all   []*bermv1.Sandbox
		last  error
	)
	slots := make(chan struct{}, topAtOnce)
	for _, m := range list {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			b, err := c.Explain().GetSandbox(ctx, &bermv1.GetSandboxRequest{SandboxId: m.GetSandboxId()})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fault.Is(err, fault.NotFound): // It was collected meanwhile.
			case err != nil:
				last = err
			case b.GetUsage() != nil:
				all = append(all, b)
			}
		})
	}
	group.Wait()
	slices.SortFunc(all, func(a, b *bermv1.Sandbox) int {
		if d := b.GetUsage().GetCpuMillicores() - a.GetUsage().GetCpuMillicores(); d != 0 {
			return int(min(max(d, -1), 1))
		}
		return strings.Compare(a.GetSandboxId(), b.GetSandboxId())
	})
	return all, last
}

func (s *session) emitUsages(all []*bermv1.Sandbox) error {
	list := messages(all)
	return s.emit(list, func() table {
		t := table{head: []string{"SANDBOX", "STATUS", "CPU", "MEMORY", "DISK", "PROCESSES", "PROFILE"}, wide: []string{"RUNNER", "OUTPUT", "NETWORK"}}
		for _, b := range all {
			u := b.GetUsage()
			t.rows = append(t.rows, []string{
				b.GetSandboxId(), strings.ToLower(b.GetStatus()), cpus(u.GetCpuMillicores()), size(u.GetMemoryBytes()), size(u.GetDiskBytes()),
				strconv.FormatInt(u.GetPids(), 10), b.GetProfileName(), b.GetRunnerId(), size(u.GetOutputBytes()), size(u.GetNetworkBytes()),
			})
		}
		return t
	})
}

// cpus writes thousandths of a CPU as people do.
func cpus(millis int64) string { return strconv.FormatInt(millis, 10) + "m" }

// size writes bytes with a unit.
func size(bytes int64) string {
	units := []string{"Ki", "Mi", "Gi", "Ti"}
	if bytes < 1<<10 {
		return strconv.FormatInt(bytes, 10)
	}
	amount := float64(bytes)
	for i, unit := range units {
		if amount /= 1 << 10; amount < 1<<10 || i == len(units)-1 {
			return fmt.Sprintf("%.1f%s", amount, unit)
		}
	}
	return ""
}
