package cli

import (
	"context"
	"fmt"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

// explainDrift answers `berm explain --drift`. What Kubernetes fills into every pod is counted, and shown with -o wide.
func (s *session) explainDrift(ctx context.Context, c *client.Client, id string) error {
	d, err := c.Explain().ExplainDrift(ctx, &bermv1.ExplainDriftRequest{SandboxId: id})
	if err != nil {
		return err
	}
	if s.output == "json" || s.output == "yaml" {
		raw, err := toJSON(d)
		if err != nil {
			return err
		}
		return s.emitJSON(raw)
	}
	t, filled := table{head: []string{"FIELD", "", "SUBMITTED", "NOW", "BY", "AT"}}, 0
	for _, f := range d.GetFields() {
		if f.GetFilled() {
			if filled++; s.output != "wide" {
				continue
			}
		}
		t.rows = append(t.rows, []string{f.GetPath(), f.GetKind(), valueText(f.GetSubmitted()), valueText(f.GetHeld()), writer(f), clock(f.GetAt())})
	}
	if len(t.rows) > 0 {
		s.table(t)
		fmt.Fprintln(s.Out)
	}
	if n := len(d.GetFields()) - filled; n == 0 && d.GetOmittedFields() == 0 {
		fmt.Fprintf(s.Out, "Runner %s holds sandbox %s as it was submitted.\n", clean(d.GetRunnerId()), d.GetSandboxId())
	}
	if filled > 0 && s.output != "wide" {
		fmt.Fprintf(s.Out, "%d more that Kubernetes fills in where nothing is said: -o wide\n", filled)
	}
	if n := d.GetOmittedFields(); n > 0 {
		fmt.Fprintf(s.Out, "%d more that are not listed\n", n)
	}
	return nil
}

// writer says who wrote what is held, as far as the cluster records it.
func writer(f *bermv1.DriftField) string {
	switch {
	case f.GetFilled():
		return "Kubernetes"
	case f.GetHeld() == nil:
		return ""
	case f.GetBy() == "":
		return "(admission, or a default)"
	case f.GetBy() == bermManager:
		return "(admission)"
	}
	return f.GetBy()
}

// bermManager is the field manager of what Berm submits: what is owned by it and is another was changed on its way in.
const bermManager = "berm"
