package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func (w *world) zoneObject(name, defaults string) control.ApplyObject {
	return control.ApplyObject{Kind: store.KindZone, Name: name, Zone: &control.ZoneInput{Defaults: w.layer(defaults)}}
}

func (w *world) profileObject(name, specText string) control.ApplyObject {
	return control.ApplyObject{Kind: store.KindProfile, Name: name, Profile: &control.ProfileInput{Spec: w.layer(specText)}}
}

// runnerObject is a runner whose bindings have profiles by name, the first of which is the default.
func (w *world) runnerObject(name, zone string, bindings ...core.Binding) control.ApplyObject {
	bindings[0].Default = true
	return control.ApplyObject{Kind: store.KindRunner, Name: name, Runner: &control.RunnerInput{Zone: zone, ClusterName: "cluster-" + name, Bindings: bindings}}
}

func gone(kind store.Kind, name string) control.ApplyObject {
	return control.ApplyObject{Kind: kind, Name: name, Delete: true}
}

// applied makes an apply and returns what became of each object: KIND NAME ACTION.
func (w *world) applied(a control.Application) (string, error) {
	w.Helper()
	list, _, err := w.svc.Apply(w.ctx(), w.admin, a)
	var out []string
	for _, o := range list {
		text := fmt.Sprintf("%s %s %s", o.Kind, o.Name, o.Action)
		if o.Pruned {
			text += " (pruned)"
		}
		if o.PreviousOwner != "" {
			text += " (from " + o.PreviousOwner + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", "), err
}

func (w *world) wantApplied(a control.Application, want string) {
	w.Helper()
	got, err := w.applied(a)
	w.must(err)
	if got != want {
		w.Errorf("applied %q\nwant    %q", got, want)
	}
}

// configured is every object with its revision.
func (w *world) configured() string {
	w.Helper()
	var out []string
	w.must(w.store.View(w.ctx(), func(r store.Reader) error {
		for _, kind := range []store.Kind{store.KindZone, store.KindProfile, store.KindRunner} {
			list, _, err := r.Objects(w.ctx(), kind, w.admin.OrgID, store.Page{Size: store.MaxPage})
			if err != nil {
				return err
			}
			for _, o := range list {
				out = append(out, fmt.Sprintf("%s %s %d", o.Kind, o.Name, o.Revision))
			}
		}
		return nil
	}))
	return strings.Join(out, ", ")
}

// TestApply: objects that need each other, in the wrong order, on both databases; again it changes nothing, and all of it goes at once.
func TestApply(t *testing.T) {
	for _, dsn := range []string{"", postgres.Database(t)} {
		w := newWorldOn(t, dsn, control.Config{}, fake.Config{})
		before := w.configured()
		set := []control.ApplyObject{
			w.runnerObject("far", "moon", core.Binding{ProfileID: "agent"}, core.Binding{ProfileID: "agent", Alias: "big", Overrides: w.layer(`{"resource_defaults":{"memory_limit":"2Gi"}}`), Warm: 1}),
			w.profileObject("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"tags":null}`),
			w.zoneObject("moon", `{"node_selector":{"site":"moon"}}`),
		}
		a := control.Application{Objects: set, Reason: "first"}
		var seen string
		p, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
			list, _, err := w.svc.Apply(ctx, w.admin, a)
			for _, c := range list[0].Changes {
				seen += c.Path + "=" + string(c.New) + " "
			}
			return err
		})
		w.must(err)
		if want := `profile_bindings[agent].is_default=true profile_bindings[agent].profile="agent" profile_bindings[big].overrides.resource_defaults.memory_limit="2Gi"`; !strings.Contains(seen, want) {
			t.Errorf("the plan says %s", seen)
		}
		if got := groups(p.Bindings); !strings.Contains(got, "added") || w.configured() != before {
			t.Errorf("effect %s, configured %s", got, w.configured())
		}
		w.wantApplied(a, "runner far create, profile agent create, zone moon create")
		after := w.configured()
		if want := "zone moon 1, profile agent 1, profile default 1, runner far 1, runner r1 1"; after != want && after != "zone local 1, "+want {
			t.Errorf("configured: %s", after)
		}
		w.wantApplied(a, "runner far none, profile agent none, zone moon none")
		if now := w.configured(); now != after {
			t.Errorf("applied again: %s", now)
		}
		v, err := w.svc.GetRunner(w.ctx(), w.user, "far")
		w.must(err)
		if b := v.Runner.Bindings; b[0].Alias != "" || b[1].Alias != "big" || b[1].Warm != 1 || v.Runner.Reason != "first" || v.Runner.Zone != "moon" {
			t.Errorf("%+v", v.Runner)
		}
		w.wantApplied(control.Application{Objects: []control.ApplyObject{gone(store.KindZone, "moon"), gone(store.KindProfile, "agent"), gone(store.KindRunner, "far"), gone(store.KindZone, "mars")}},
			"zone moon delete, profile agent delete, runner far delete, zone mars none")
		if now := w.configured(); now != before {
			t.Errorf("all deleted: %s, want %s", now, before)
		}
	}
}

// TestApplyIsOneState: what is checked is the state after all edits, not those between: a guardrail and the override beneath it come down
// together, though the guardrail alone is refused.
func TestApplyIsOneState(t *testing.T) {
	w := newWorld(t)
	set := func(guardrail, override string) []control.ApplyObject {
		return []control.ApplyObject{
			w.profileObject("agent", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"512Mi"},"guardrails":{"resources":{"max_memory":"`+guardrail+`"}}}`),
			w.runnerObject("far", "moon", core.Binding{ProfileID: "agent", Overrides: w.layer(`{"resource_defaults":{"memory_limit":"` + override + `"}}`)}),
		}
	}
	w.wantApplied(control.Application{Objects: set("4Gi", "3Gi")}, "profile agent create, runner far create")
	before := w.configured()
	_, err := w.applied(control.Application{Objects: set("2Gi", "3Gi")[:1]})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, "binding agent of runner far", "0 zones and 1 profile")
	_, err = w.applied(control.Application{Objects: set("2Gi", "3Gi")})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable, "binding agent of runner far")
	if now := w.configured(); now != before {
		t.Errorf("refused, and %s", now)
	}
	w.wantApplied(control.Application{Objects: set("2Gi", "1Gi")}, "profile agent change, runner far change")
	w.wantApplied(control.Application{Objects: set("4Gi", "3Gi")}, "profile agent change, runner far change")
}

// TestApplyIsAllOrNothing: one object that is refused takes all with it, and every refusal of a kind is named.
func TestApplyIsAllOrNothing(t *testing.T) {
	w := newWorld(t)
	before := w.configured()
	bad := w.runnerObject("far", "moon", core.Binding{ProfileID: "nobody"}, core.Binding{ProfileID: "agent"})
	worse := w.runnerObject("near", "moon", core.Binding{ProfileID: "agent"})
	worse.Runner.ClusterName = ""
	_, err := w.applied(control.Application{Objects: []control.ApplyObject{w.profileObject("agent", `{}`), w.zoneObject("moon", `{}`), bad, worse}})
	wantFault(t, err, fault.Invalid, fault.ReasonBindingsInvalid, "2 objects are refused", `profile "nobody" does not exist`)
	if !hasField(err, "objects[2].profile_bindings[0].profile_template_id") || !hasField(err, "objects[3].identity.cluster_id") {
		t.Errorf("fields %+v", fault.From(err).Fields)
	}
	if now := w.configured(); now != before {
		t.Errorf("refused, and %s", now)
	}
	for name, c := range map[string]struct {
		a     control.Application
		field string
	}{
		"twice":          {control.Application{Objects: []control.ApplyObject{w.zoneObject("a", `{}`), w.zoneObject("a", `{}`)}}, "objects[1].name"},
		"kind":           {control.Application{Objects: []control.ApplyObject{{Kind: "token", Name: "x"}}}, "objects[0].kind"},
		"name":           {control.Application{Objects: []control.ApplyObject{w.zoneObject("a b", `{}`)}}, "objects[0].name"},
		"empty":          {control.Application{Objects: []control.ApplyObject{{Kind: store.KindProfile, Name: "x"}}}, "objects[0]"},
		"prune of whom":  {control.Application{Prune: true}, "prune"},
		"name of owner":  {control.Application{Owner: "a b"}, "owner"},
		"spec of nobody": {control.Application{Objects: []control.ApplyObject{{Kind: store.KindProfile, Name: "x", Profile: &control.ProfileInput{}}}}, "objects[0].spec"},
	} {
		if _, err := w.applied(c.a); !fault.Is(err, fault.Invalid) || !hasField(err, c.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.applied(control.Application{Objects: slices.Repeat([]control.ApplyObject{gone(store.KindZone, "x")}, control.MaxApplied+1)})
	wantFault(t, err, fault.Invalid, fault.ReasonLimitExceeded, "10001 objects")
}

// TestApplyOfAPlan: what was planned for another state is refused, whatever happened to it.
func TestApplyOfAPlan(t *testing.T) {
	w := newWorld(t)
	w.wantApplied(control.Application{Objects: []control.ApplyObject{w.profileObject("agent", `{}`), w.zoneObject("moon", `{}`)}}, "profile agent create, zone moon create")
	planned := func(objects ...control.ApplyObject) []control.ApplyObject {
		t.Helper()
		_, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
			list, _, err := w.svc.Apply(ctx, w.admin, control.Application{Objects: objects})
			for i, o := range list {
				objects[i].Etag = &o.Etag
			}
			return err
		})
		w.must(err)
		return objects
	}
	a := planned(w.profileObject("agent", `{"tags":["a"]}`), w.zoneObject("moon", `{"tags":["a"]}`), w.zoneObject("mars", `{}`), w.profileObject("new", `{}`))
	refused := func(what string) {
		t.Helper()
		before := w.configured()
		_, err := w.applied(control.Application{Objects: a})
		wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch, what)
		if now := w.configured(); now != before {
			t.Errorf("refused, and %s", now)
		}
	}
	w.editProfile("agent", `{"tags":["b"]}`)
	refused("profile agent was changed since: it is at revision 2")
	a[0].Etag = nil
	a[0] = planned(a[0])[0]
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "mars", control.ZoneInput{})
	w.must(err)
	refused("zone mars was made meanwhile, by token:admin")
	w.must(w.svc.DeleteZone(w.ctx(), w.admin, "mars", control.DeleteOptions{}))
	w.must(w.svc.DeleteZone(w.ctx(), w.admin, "moon", control.DeleteOptions{}))
	refused("zone moon does not exist any more")
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "moon", control.ZoneInput{Defaults: w.layer(`{}`)})
	w.must(err)
	refused("zone moon was changed since")
	a[1].Etag = nil
	w.wantApplied(control.Application{Objects: a}, "profile agent change, zone moon change, zone mars create, profile new create")
}
