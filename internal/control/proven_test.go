package control_test

import (
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// TestProven: a profile that demands a proven egress mode runs where its runner has tried that type, and is told elsewhere what was; and
// explain says how sure it is, for ever.
func TestProven(t *testing.T) {
	const note = "proven: tried from a pod"
	cluster := backend.Info{
		Features: []string{"image:host", "egress:none", "egress:internet", "proven:none"},
		Runtimes: []backend.Runtime{{Name: "fake", Enforcement: []backend.Enforcement{{Name: "egress:none", Works: true, Note: note}}}},
	}
	w := newWorldWith(t, control.Config{}, fake.Config{Info: cluster}, "r1=us")
	const modes = `"modes":{"none":{"type":"none"},"internet":{"type":"internet"}}`
	w.editProfile("default", `{"container_image":"host","network":{"egress":{"require":"proven","default":"none",`+modes+`}}}`)
	sb := w.running(&specpb.Launch{})
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "network.egress.require")
	w.must(err)
	if f := e.Fields[0]; f.Enforcement != "enforced" || f.Note != note {
		t.Errorf("explained as %s: %q", f.Enforcement, f.Note)
	}
	_, _, err = w.svc.Launch(w.ctx(), w.user, &specpb.Launch{EgressMode: "internet"})
	refusal, ok := fault.From(err).Detail.(*plan.Refusal)
	if !ok {
		t.Fatalf("internet is not proven: %v", err)
	}
	said := false
	for _, c := range refusal.Candidates {
		for _, r := range c.Reasons {
			said = said || r.Path == "network.egress.require" && r.Limit == "none" && strings.Contains(r.Message, "internet")
		}
	}
	if !said {
		t.Errorf("refused for %+v", refusal.Candidates)
	}
	w.editProfile("default", `{"container_image":"host","network":{"egress":{"require":"declared","default":"none",`+modes+`}}}`)
	w.running(&specpb.Launch{EgressMode: "internet"})
}
