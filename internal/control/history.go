package control

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// DiffQuery names two states of configuration objects of one kind.
type DiffQuery struct {
	// ID is a UUID, also of a deleted object, or a name. OtherID, when not empty, is another object, of which To is a revision.
	ID, OtherID string
	// From and To are revisions. To 0 is the last one. From 0 is the one before To, or the last one when there is another object.
	From, To int32
}

// Diff is what leads from one state to another. A zero From is the state before the first.
type Diff struct {
	From, To core.Meta
	// Changes are ordered by path, of which those of a spec begin with "spec.", of a zone's defaults with "defaults.", of a binding
	// with "profile_bindings[NAME].".
	Changes []spec.Change
}

// DiffProfiles compares two states of profiles.
func (s *Service) DiffProfiles(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return diffOf(ctx, s, p, "DiffProfiles", store.KindProfile, q, func(_ store.Reader, o *store.Object, d *states) error {
		profile, err := profileFrom(o)
		if err == nil {
			d.value("description", profile.Description)
			for _, k := range slices.Sorted(maps.Keys(profile.Labels)) {
				d.value("labels["+k+"]", profile.Labels[k])
			}
			d.layer("spec", profile.Spec)
		}
		return err
	})
}

// DiffZones compares two states of zones.
func (s *Service) DiffZones(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return diffOf(ctx, s, p, "DiffZones", store.KindZone, q, func(_ store.Reader, o *store.Object, d *states) error {
		zone, err := zoneFrom(o)
		if err == nil {
			d.layer("defaults", zone.Defaults)
		}
		return err
	})
}

// DiffRunners compares two states of runners, their bindings by name.
func (s *Service) DiffRunners(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return diffOf(ctx, s, p, "DiffRunners", store.KindRunner, q, func(r store.Reader, o *store.Object, d *states) error {
		runner, err := runnerFrom(o)
		if err != nil {
			return err
		}
		d.value("display_name", runner.DisplayName)
		d.value("identity.zone", runner.Zone)
		d.value("identity.runner_group_id", runner.GroupID)
		m := runner.Managed
		d.value("managed_spec.release_channel", m.ReleaseChannel)
		d.value("managed_spec.allow_privileged_profile_annotations", m.AllowPrivilegedProfileAnnotation)
		d.value("managed_spec.enforce_resource_limits", m.EnforceResourceLimits)
		d.value("managed_spec.overrides.cpu_runtime_class", m.CPURuntimeClass)
		d.value("managed_spec.overrides.gpu_runtime_class", m.GPURuntimeClass)
		d.text("managed_spec.maintenance_policy", m.MaintenancePolicyJSON)
		d.text("managed_spec.overrides", m.OverridesJSON)
		for _, b := range runner.Bindings {
			if err := d.binding(ctx, r, runner.OrgID, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// states collects what one state of an object says: plain fields by path, and layers.
type states struct {
	fields map[string]json.RawMessage
	layers map[string]*spec.Layer
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

func (d *states) text(path, text string) {
	if text != "" {
		d.fields[path] = json.RawMessage(text)
	}
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

func diffOf(
	ctx context.Context, s *Service, p core.Principal, method string, kind store.Kind, q DiffQuery, read func(store.Reader, *store.Object, *states) error,
) (*Diff, error) {
	if err := s.allow(p, method); err != nil {
		return nil, err
	}
	var out *Diff
	err := s.store.View(ctx, func(r store.Reader) error {
		from, to, err := twoStates(ctx, r, kind, p.OrgID, q)
		if err != nil {
			return err
		}
		a, b := &states{map[string]json.RawMessage{}, map[string]*spec.Layer{}}, &states{map[string]json.RawMessage{}, map[string]*spec.Layer{}}
		out = &Diff{To: metaOf(to)}
		if from != nil {
			out.From = metaOf(from)
			if err := read(r, from, a); err != nil {
				return err
			}
		}
		if err := read(r, to, b); err != nil {
			return err
		}
		out.Changes = changes(a, b)
		return nil
	})
	return out, err
}

// twoStates reads what a query names; from is nil for the state before the first.
func twoStates(ctx context.Context, r store.Reader, kind store.Kind, orgID string, q DiffQuery) (from, to *store.Object, err error) {
	other := cmp.Or(q.OtherID, q.ID)
	if to, err = stateAt(ctx, r, kind, orgID, other, q.To); err != nil {
		return nil, nil, err
	}
	if q.OtherID == "" && q.From == 0 {
		if to.Revision == 1 {
			return nil, to, nil
		}
		q.From = to.Revision - 1
	}
	from, err = stateAt(ctx, r, kind, orgID, q.ID, q.From)
	return from, to, err
}

// stateAt returns a revision of an object, 0 for the last one; by UUID also of a deleted one.
func stateAt(ctx context.Context, r store.Reader, kind store.Kind, orgID, ref string, revision int32) (*store.Object, error) {
	id := ref
	if !spec.IsUUIDShaped(ref) {
		o, err := r.ObjectByName(ctx, kind, orgID, ref)
		if err != nil {
			return nil, noObject(kind, ref, err)
		}
		if id = o.ID; revision == 0 {
			return o, nil
		}
	}
	last, _, err := r.Revisions(ctx, kind, orgID, id, store.Page{Size: 1})
	if err == nil && len(last) == 0 {
		err = fault.NotFoundf("", "no revisions")
	}
	if err != nil {
		return nil, noObject(kind, ref, err)
	}
	if revision == 0 {
		return last[0], nil
	}
	o, err := r.ObjectRevision(ctx, kind, orgID, id, revision)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.NotFoundf(fault.ReasonRevisionNotFound, "%s %s has no revision %d", kind, last[0].Name, revision).
			WithHint("its revisions are 1 to %d", last[0].Revision)
	}
	return o, err
}

// noObject says that an object is not there, with the reason of its kind.
func noObject(kind store.Kind, ref string, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	reason := map[store.Kind]string{
		store.KindProfile: fault.ReasonProfileNotFound, store.KindRunner: fault.ReasonRunnerNotFound, store.KindZone: fault.ReasonZoneNotFound,
	}[kind]
	return fault.NotFoundf(reason, "%s %.80q does not exist", kind, ref)
}
