package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// runnerDescribeCmd shows what a runner can do, which is not what it is configured to.
func (s *session) runnerDescribeCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "describe RUNNER-ID", Short: "Show what a runner can do, and how its process is deployed", Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			r, err := c.Abilities().GetRunnerAbilities(ctx, &bermv1.GetRunnerAbilitiesRequest{RunnerId: a[0]})
			if err != nil {
				return err
			}
			if r.GetRefusal() != "" && s.output != "json" && s.output != "yaml" {
				return fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s can run nothing: %s", r.GetRunnerId(), r.GetRefusal())
			}
			if err := s.emit(r, func() table { return abilityTable(r) }); err != nil || s.output == "json" || s.output == "yaml" {
				return err
			}
			raw, err := c.REST(ctx, "GET", client.Path(runnersPath+"/%s", a[0]), nil)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.Out)
			return s.emitDeployment(raw)
		}),
	})
}

func abilityTable(r *bermv1.RunnerAbilities) table {
	t := table{head: []string{"RUNTIME", "WHAT", "ENFORCED", "NOTE"}}
	for _, rt := range r.GetRuntimes() {
		name := rt.GetName()
		if name == r.GetDefaultRuntimeClass() {
			name += "*"
		}
		t.rows = append(t.rows, []string{name, "program", "", rt.GetProgram()}, []string{name, "isolation", "", rt.GetIsolation()})
		for _, e := range rt.GetEnforcement() {
			t.rows = append(t.rows, []string{name, e.GetName(), map[bool]string{true: "yes", false: "refused"}[e.GetWorks()], e.GetNote()})
		}
	}
	return t
}
