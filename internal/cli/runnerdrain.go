package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) runnerCordonCmd() *cobra.Command {
	var reason, etag string
	c := s.outputFlag(&cobra.Command{
		Use: "cordon RUNNER-ID", Short: "Keep new sandboxes away from a runner; those that run go on", Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			m, err := c.Maintenance().CordonRunner(ctx, &bermv1.CordonRunnerRequest{Id: a[0], Reason: reason, Etag: etag})
			if err != nil {
				return err
			}
			return s.emitMaintenance(m)
		}),
	})
	stateFlags(c, &reason, &etag)
	return c
}

func (s *session) runnerUncordonCmd() *cobra.Command {
	var reason, etag string
	c := s.outputFlag(&cobra.Command{
		Use: "uncordon RUNNER-ID", Short: "Let a runner take new sandboxes again", Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			m, err := c.Maintenance().UncordonRunner(ctx, &bermv1.UncordonRunnerRequest{Id: a[0], Reason: reason, Etag: etag})
			if err != nil {
				return err
			}
			return s.emitMaintenance(m)
		}),
	})
	stateFlags(c, &reason, &etag)
	return c
}

func (s *session) runnerDrainCmd() *cobra.Command {
	var reason, etag string
	var noWait bool
	grace := 10 * time.Second
	c := s.outputFlag(&cobra.Command{
		Use: "drain RUNNER-ID", Short: "Cordon a runner and end its sandboxes",
		Long: `Cordon a runner, tell every sandbox on it to end, and wait until they have. The runner and its configuration stay; it takes sandboxes
again after "berm runner uncordon".`,
		Example: `  berm runner drain east --reason "kernel update" --grace 60s`,
		Args:    args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if grace < 0 || grace%time.Second != 0 {
				return fault.Invalidf("USAGE", "--grace %s is not a whole number of seconds", grace)
			}
			seconds := int32(min(grace/time.Second, 1<<31-1))
			d, err := c.Maintenance().DrainRunner(ctx, &bermv1.DrainRunnerRequest{Id: a[0], GraceSeconds: &seconds, Reason: reason, Etag: etag})
			if err != nil {
				return err
			}
			if d.GetFailed() > 0 {
				return notDrained(d)
			}
			m := d.GetRunner()
			if !noWait {
				if m, err = s.awaitDrained(ctx, c, m); err != nil {
					return err
				}
			}
			return s.emitMaintenance(m)
		}),
	})
	stateFlags(c, &reason, &etag)
	c.Flags().DurationVar(&grace, "grace", grace, "time between TERM and KILL, in whole seconds, at most an hour")
	c.Flags().Lookup("grace").Value = &seconds{&grace}
	c.Flags().BoolVar(&noWait, "no-wait", false, "return when the sandboxes were told, not when they have ended")
	return c
}

// notDrained says which sandboxes could not be told to end.
func notDrained(d *bermv1.DrainRunnerResponse) error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "%s of runner %s could not be told to end:\n  %s",
		sandboxes(int64(d.GetFailed())), d.GetRunner().GetRunnerId(), strings.Join(d.GetProblems(), "\n  ")).
		WithHint("the runner is cordoned: drain it again when it is in contact")
}

// awaitDrained waits until a runner has no sandbox any more.
func (s *session) awaitDrained(ctx context.Context, c *client.Client, m *bermv1.RunnerMaintenance) (*bermv1.RunnerMaintenance, error) {
	told := int64(-1)
	err := s.watch(ctx, c, &bermv1.WatchRequest{RunnerIds: []string{m.GetRunnerId()}}, func(e *bermv1.WatchResponse) (err error) {
		if e.GetMark() == nil && e.GetSandbox().GetEndedAt() == nil {
			return nil
		}
		if m, err = c.Maintenance().GetRunnerMaintenance(ctx, &bermv1.GetRunnerMaintenanceRequest{Id: m.GetRunnerUuid()}); err != nil {
			return err
		}
		n := m.GetLiveSandboxes()
		if n == 0 {
			return errEnough
		}
		if n != told {
			fmt.Fprintf(s.Err, "%s to end\n", sandboxes(n))
			told = n
		}
		return nil
	})
	return m, err
}

func sandboxes(n int64) string {
	if n == 1 {
		return "1 sandbox"
	}
	return fmt.Sprintf("%d sandboxes", n)
}

func (s *session) emitMaintenance(m *bermv1.RunnerMaintenance) error {
	return s.emit(m, func() table {
		t := table{head: []string{"RUNNER", "NEW SANDBOXES", "SINCE", "BY", "REASON", "SANDBOXES"}}
		taken := "taken"
		if m.GetCordoned() {
			taken = "kept away"
		}
		t.rows = append(t.rows, []string{m.GetRunnerId(), taken, clock(m.GetCordonedAt()), m.GetCordonedBy(), m.GetReason(), fmt.Sprint(m.GetLiveSandboxes())})
		return t
	})
}

// cordonedRunners returns the ids of runners that take no new sandboxes. A server that does not know them has none.
func cordonedRunners(ctx context.Context, c *client.Client) map[string]bool {
	out := map[string]bool{}
	resp, err := c.Maintenance().ListCordonedRunners(ctx, &bermv1.ListCordonedRunnersRequest{})
	if err != nil {
		return out
	}
	for _, m := range resp.GetRunners() {
		out[m.GetRunnerId()] = true
	}
	return out
}
