package control

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/store"
)

// states collects what one state of an object says: plain fields by path, and layers.
type states struct {
	fields map[string]json.RawMessage
	layers map[string]*spec.Layer
}

func newStates() *states { return &states{map[string]json.RawMessage{}, map[string]*spec.Layer{}} }

// read adds what an object says.
func (d *states) read(ctx context.Context, r store.Reader, o *store.Object) error {
	switch o.Kind {
	case store.KindZone:
		zone, err := zoneFrom(o)
		if err == nil {
			d.layer("defaults", zone.Defaults)
		}
		return err
	case store.KindProfile:
		profile, err := profileFrom(o)
		if err == nil {
			d.profile(profile)
		}
		return err
	case store.KindTests:
		tests, err := testsFrom(o)
		if err == nil {
			d.value("mode", string(tests.Mode))
			d.value("file", tests.File)
		}
		return err
	case store.KindRunner:
		runner, err := runnerFrom(o)
		if err != nil {
			return err
		}
		return d.runner(ctx, r, runner)
	}
	return fault.Internalf(nil, "%s has no fields to compare", o.Kind)
}

func (d *states) profile(p *core.Profile) {
	d.value("description", p.Description)
	for k, v := range p.Labels {
		d.value("labels["+k+"]", v)
	}
	d.layer("spec", p.Spec)
}

func (d *states) runner(ctx context.Context, r store.Reader, runner *core.Runner) error {
	d.value("display_name", runner.DisplayName)
	d.value("identity.zone", runner.Zone)
	d.value("identity.runner_group_id", runner.GroupID)
	d.value("deleting", runner.DeletingSince != nil)
	if runner.Cordon != nil {
		d.value("cordoned", true)
		d.value("cordon_reason", runner.Cordon.Reason)
	}
	m := runner.Managed
	d.value("managed_spec.release_channel", m.ReleaseChannel)
	d.value("managed_spec.allow_privileged_profile_annotations", m.AllowPrivilegedProfileAnnotation)
	d.value("managed_spec.enforce_resource_limits", m.EnforceResourceLimits)
	d.value("managed_spec.overrides.cpu_runtime_class", m.CPURuntimeClass)
	d.value("managed_spec.overrides.gpu_runtime_class", m.GPURuntimeClass)
	d.value("deployment.revision", runner.Deployment.Revision)
	d.value("deployment.version", runner.Deployment.Version)
	d.value("deployment.image", runner.Deployment.Image)
	d.text("managed_spec.maintenance_policy", m.MaintenancePolicyJSON)
	d.text("managed_spec.overrides", m.OverridesJSON)
	for _, b := range runner.Bindings {
		if err := d.binding(ctx, r, runner.OrgID, b); err != nil {
			return err
		}
	}
	return nil
}

// value adds a plain field, unless it has its zero value: that is what a field that is not there has.
func (d *states) value(path string, v any) {
	if v == "" || v == false || v == int32(0) {
		return
	}
	text, err := json.Marshal(v)
	if err == nil {
		d.fields[path] = text
	}
}

// text adds the fields of a message that is kept as JSON, each by itself; those of a map by their keys.
func (d *states) text(path, text string) {
	n, err := tree.ParseJSON([]byte(text))
	if text == "" || err != nil {
		return // What is no JSON was refused when it was written.
	}
	d.node(path, n)
}

func (d *states) node(path string, n *tree.Node) {
	if n.Kind != tree.Object {
		d.fields[path] = n.JSON()
		return
	}
	for _, k := range n.Keys {
		at := path + "." + snake(k.Name)
		if isMap[k.Name] && k.Value.Kind == tree.Object {
			for _, entry := range k.Value.Keys {
				d.fields[at+"["+entry.Name+"]"] = entry.Value.JSON()
			}
			continue
		}
		d.node(at, k.Value)
	}
}

// isMap names the maps among deployment overrides.
var isMap = map[string]bool{"nodeSelector": true, "annotations": true, "labels": true, "env": true}

// snake is the name of a field as it stands in paths.
func snake(camel string) string {
	var b strings.Builder
	for _, r := range camel {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func (d *states) layer(path string, l *spec.Layer) {
	if l != nil {
		d.layers[path] = l
	}
}

func (d *states) binding(ctx context.Context, r store.Reader, orgID string, b core.Binding) error {
	profile, err := lastName(ctx, r, store.KindProfile, orgID, b.ProfileID)
	if err != nil {
		return err
	}
	at := "profile_bindings[" + cmp.Or(b.Alias, profile) + "]"
	d.value(at+".profile", profile)
	d.value(at+".is_default", b.Default)
	d.value(at+".warm.size", b.Warm)
	d.layer(at+".overrides", b.Overrides)
	return nil
}

// lastName returns the name of an object, also of a deleted one.
func lastName(ctx context.Context, r store.Reader, kind store.Kind, orgID, id string) (string, error) {
	last, _, err := r.Revisions(ctx, kind, orgID, id, store.Page{Size: 1})
	if err != nil || len(last) == 0 {
		return id, err
	}
	return last[0].Name, nil
}

// changes returns what leads from one state to another.
func changes(from, to *states) []spec.Change {
	var out []spec.Change
	for _, path := range union(from.fields, to.fields) {
		if c, differ := spec.ChangeOf(path, from.fields[path], to.fields[path]); differ {
			out = append(out, c)
		}
	}
	for _, at := range union(from.layers, to.layers) {
		for _, c := range spec.Diff(from.layers[at], to.layers[at]) {
			c.Path = at + "." + c.Path
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, spec.Change.Compare)
	return out
}

func union[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
