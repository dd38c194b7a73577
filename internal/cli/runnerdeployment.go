package cli

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// runnerUpgradeCmd applies an update.
func (s *session) runnerUpgradeCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "upgrade RUNNER-ID", Short: "Apply the update that the release channel of a runner offers, now", Args: args(1, 1, "the id of a runner"),
		Long: `Apply the update that the release channel of a runner offers, now rather than in its next maintenance window. A runner that does not
change its own deployment is left as it is: the answer says what to run in its place. berm runner describe says what is offered, when it
would be applied, and how far it is.`,
		Example: `  berm runner upgrade prod
  berm runner describe prod`,
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := c.REST(ctx, "POST", client.Path(runnersPath+"/%s:apply-update", a[0]), []byte("{}"))
			if err != nil {
				return err
			}
			return s.emitDeployment(raw)
		}),
	})
}

// emitDeployment writes how the process of a runner is deployed.
func (s *session) emitDeployment(raw json.RawMessage) error {
	items, err := objects(raw, true)
	if err != nil {
		return err
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"DEPLOYMENT", "VALUE"}}
		for _, r := range items {
			t.rows = append(t.rows, deploymentRows(r)...)
		}
		return t
	})
}

// deploymentRows lists what there is to say; what is empty is left out.
func deploymentRows(r map[string]any) (rows [][]string) {
	row := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	d := func(path ...string) string { return pick(r, append([]string{"deployment"}, path...)...) }
	row("runs", strings.TrimSpace(pick(r, "activeConfigVersion")+" "+d("activeImage")))
	row("channel", strings.ToLower(strings.TrimPrefix(pick(r, "managedSpec", "releaseChannel"), "RELEASE_CHANNEL_")))
	row("offered", strings.TrimSpace(d("offeredVersion")+" "+d("offeredImage")))
	row("update available", first(pick(r, "updateAvailable"), "false"))
	row("updates itself", first(d("selfUpdate"), "false"))
	if d("selfUpdate") == "true" {
		row("next window", localTime(d("nextUpdateAt")))
	}
	row("revision", first(pick(r, "activeRevision"), "0")+" of "+pick(r, "targetRevision"))
	row("pending", d("pending"))
	if hints, ok := pickList(r, "deployment", "hints"); ok {
		for _, h := range hints {
			row("to do", h)
		}
	}
	if d("error", "message") != "" {
		row("failed", d("error", "message")+" ("+d("error", "reason")+", "+localTime(d("error", "occurredAt"))+")")
		row("seen", d("error", "diagnosticDetail"))
	}
	return rows
}

// pickList is pick of a list of texts.
func pickList(r map[string]any, path ...string) (out []string, ok bool) {
	var at any = r
	for _, name := range path {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	list, ok := at.([]any)
	for _, v := range list {
		if text, is := v.(string); is {
			out = append(out, text)
		}
	}
	return out, ok
}

// wantedOf asks which deployment is wanted of a runner, besides its image.
func wantedOf(ctx context.Context, c *client.Client, id string) (w rollout.Wanted, err error) {
	raw, err := c.REST(ctx, "GET", client.Path(runnersPath+"/%s", id), nil)
	if err != nil {
		return w, err
	}
	var r struct {
		TargetRevision int32
		ManagedSpec    struct{ Overrides rollout.Overrides }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return w, fault.Internalf(err, "the answer about runner %s cannot be read", id)
	}
	return rollout.Wanted{Revision: r.TargetRevision, Overrides: r.ManagedSpec.Overrides}, nil
}
