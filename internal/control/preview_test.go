package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/impact"
)

// groups writes groups as KIND COUNT ABOUT: MESSAGE, PATH OLD -> NEW (MEANING).
func groups(list []impact.Group) string {
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "%s %d: %s", g.Kind, g.Count, g.Message)
		for _, f := range g.Fields {
			value := func(s *impact.Side) string {
				if s == nil {
					return "-"
				}
				return string(s.Value)
			}
			fmt.Fprintf(&b, " [%s %s -> %s: %s]", f.Path, value(f.Old), value(f.New), f.Meaning)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// edited is an edit of a profile as a caller makes it.
func (w *world) edited(ref, specText string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := w.svc.UpdateProfile(ctx, w.admin, ref, control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(specText)}})
		return err
	}
}

func TestPreview(t *testing.T) {
	w := newWorld(t, "east", "west")
	agent := w.newProfile("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"guardrails":{"resources":{"max_memory":"4Gi"}}}`)
	for _, r := range []string{"east", "west"} {
		w.must(w.bind(r, core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	}
	_, _, err := w.svc.UpdateBinding(w.ctx(), w.admin, "west", "agent", control.BindingPatch{Mask: []string{"overrides_json"}, Binding: core.Binding{Overrides: w.layer(`{"resource_defaults":{"memory_limit":"2Gi"}}`)}}, control.EditState{})
	w.must(err)
	launch := func(runner, memory string) *core.Sandbox {
		l := &specpb.Launch{ProfileNames: []string{"agent"}, RunnerIds: []string{runner}}
		if memory != "" {
			l.ResourceLimits = &specpb.ResourceAmounts{Cpu: "1", Memory: memory}
		}
		return w.running(l)
	}
	launch("east", "")
	launch("east", "")
	big := launch("west", "3Gi")
	launch("west", "")
	w.running(nil)
	before, err := w.svc.GetProfile(w.ctx(), w.user, "agent")
	w.must(err)

	got, err := w.svc.Preview(w.ctx(), w.admin, 0, w.edited("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"512Mi"},"guardrails":{"resources":{"max_memory":"2Gi"}}}`))
	w.must(err)
	wantChanges := "profile agent: spec.guardrails.resources.max_memory lowered, profile agent: spec.resource_defaults.memory_limit lowered"
	var changes []string
	for _, c := range got.Changes {
		changes = append(changes, c.Path+" "+c.Meaning())
	}
	if strings.Join(changes, ", ") != wantChanges {
		t.Errorf("changes %q", changes)
	}
	if want := `changed 1:  [guardrails.resources.max_memory "4Gi" -> "2Gi": lowered] [resource_defaults.memory_limit "1Gi" -> "512Mi": lowered]
changed 1:  [guardrails.resources.max_memory "4Gi" -> "2Gi": lowered]
`; groups(got.Bindings) != want {
		t.Errorf("bindings\n%swant\n%s", groups(got.Bindings), want)
	}
	for name, list := range map[string][]impact.Group{"launches": got.Launches, "sandboxes": got.Sandboxes} {
		text := groups(list)
		if len(list) != 2 || list[0].Kind != impact.Refused || list[0].About != big.ID || !strings.Contains(list[0].Message, "2Gi") ||
			!strings.HasSuffix(text, "changed 2:  [resource_defaults.memory_limit \"1Gi\" -> \"512Mi\": lowered]\n") {
			t.Errorf("%s\n%s", name, text)
		}
	}
	if got.LaunchesSeen != 5 || got.SandboxesSeen != 5 || got.More {
		t.Errorf("%d launches, %d sandboxes", got.LaunchesSeen, got.SandboxesSeen)
	}

	after, err := w.svc.GetProfile(w.ctx(), w.user, "agent")
	w.must(err)
	if after.Revision != before.Revision || after.Spec.String() != before.Spec.String() {
		t.Errorf("a preview wrote: %+v %s", after.Meta, after.Spec)
	}
	// What the preview says is what happens.
	w.must(w.edited("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"512Mi"},"guardrails":{"resources":{"max_memory":"2Gi"}}}`)(w.ctx()))
	_, _, err = w.svc.Launch(w.ctx(), w.user, &specpb.Launch{ProfileNames: []string{"agent"}, RunnerIds: []string{"west"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "1", Memory: "3Gi"}})
	if !fault.HasReason(err, fault.ReasonProfileMismatch) {
		t.Errorf("the launch that a preview says is refused: %v", err)
	}
	got, err = w.svc.Preview(w.ctx(), w.admin, 0, w.edited("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"512Mi"},"guardrails":{"resources":{"max_memory":"4Gi"}}}`))
	w.must(err)
	if len(got.Launches) != 1 || got.Launches[0].Kind != impact.Admitted || got.Launches[0].About != big.ID {
		t.Errorf("launches\n%s", groups(got.Launches))
	}
}

// TestPreviewOfEveryEdit: each edit says what it would do, is refused as it would be, and writes nothing.
func TestPreviewOfEveryEdit(t *testing.T) {
	w := newWorld(t, "r1=z")
	agent := w.newProfile("agent", `{}`)
	w.running(nil)
	var none control.EditState
	state := func() string {
		v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
		w.must(err)
		profiles, _, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{}, control.Page{})
		w.must(err)
		zones, _, err := w.svc.ListZones(w.ctx(), w.user, control.Page{})
		w.must(err)
		return fmt.Sprint(v.Runner.Revision, names(v), len(profiles), len(zones))
	}
	was := state()
	for name, tt := range map[string]struct {
		edit                func(context.Context) error
		bindings, launches  string
		refused, nothingNew bool
	}{
		"a zone appears": {edit: func(ctx context.Context) error {
			_, _, err := w.svc.PutZone(ctx, w.admin, "z", control.ZoneInput{Defaults: w.layer(`{"tags":["z"]}`)})
			return err
		}, bindings: `changed 1:  [tags - -> ["z"]: gets a value]` + "\n", launches: `changed 1:  [tags - -> ["z"]: gets a value]` + "\n"},
		"a profile is made": {edit: func(ctx context.Context) error {
			_, err := w.svc.CreateProfile(ctx, w.admin, control.ProfileInput{DisplayName: "new", Spec: w.layer(`{}`)})
			return err
		}},
		"a profile that nobody binds goes": {edit: func(ctx context.Context) error {
			return w.svc.DeleteProfile(ctx, w.admin, "agent", control.DeleteOptions{})
		}},
		"a profile that is bound": {edit: func(ctx context.Context) error {
			return w.svc.DeleteProfile(ctx, w.admin, "default", control.DeleteOptions{})
		}, refused: true},
		"a binding more": {edit: func(ctx context.Context) error {
			_, _, err := w.svc.AddBinding(ctx, w.admin, "r1", core.Binding{ProfileID: agent.ID}, none)
			return err
		}, bindings: "added 1: of profile agent [network.egress.default - -> \"none\": gets a value] [network.egress.modes - -> {\"none\":{\"type\":\"none\"}}: gets a value]\n"},
		"another default": {edit: func(ctx context.Context) error {
			_, _, err := w.svc.AddBinding(ctx, w.admin, "r1", core.Binding{ProfileID: agent.ID, Default: true}, none)
			return err
		}, bindings: "added 1: of profile agent [network.egress.default - -> \"none\": gets a value] [network.egress.modes - -> {\"none\":{\"type\":\"none\"}}: gets a value]\n", launches: "elsewhere 1: on r1/agent in place of r1/default\n"},
		"the only binding": {edit: func(ctx context.Context) error {
			_, _, err := w.svc.RemoveBinding(ctx, w.admin, "r1", "default", "", none)
			return err
		}, refused: true},
		"nothing": {edit: func(ctx context.Context) error {
			_, _, err := w.svc.SetDefaultBinding(ctx, w.admin, "r1", "default", none)
			return err
		}, nothingNew: true},
		"a runner goes": {edit: func(ctx context.Context) error {
			return w.svc.DeleteRunner(ctx, w.admin, "r1", control.DeleteOptions{Force: true})
		}},
		"by a user": {edit: func(ctx context.Context) error {
			return w.svc.DeleteProfile(ctx, w.user, "agent", control.DeleteOptions{})
		}, refused: true},
	} {
		got, err := w.svc.Preview(w.ctx(), w.admin, 10, tt.edit)
		if tt.refused {
			if err == nil {
				t.Errorf("%s: not refused", name)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			if groups(got.Bindings) != tt.bindings || tt.launches != "" && groups(got.Launches) != tt.launches {
				t.Errorf("%s: bindings\n%slaunches\n%s", name, groups(got.Bindings), groups(got.Launches))
			}
			if tt.nothingNew != (len(got.Changes) == 0) {
				t.Errorf("%s: changes %+v", name, got.Changes)
			}
		}
		if now := state(); now != was {
			t.Fatalf("%s: a preview changed %s to %s", name, was, now)
		}
	}
	if sb := w.launch(proto.CloneOf(&specpb.Launch{})); sb.ProfileName != "default" {
		t.Errorf("a launch after previews ran under %s", sb.ProfileName)
	}
}
