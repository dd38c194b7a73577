package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// applier is one run of Apply within a transaction.
type applier struct {
	Application
	service *Service
	p       core.Principal
	batch   *batch
	// owners has the sets that objects belong to, by UUID.
	owners   map[string]store.Owner
	out      []Applied
	warnings []string
}

// applyStep is a part of an apply. Objects come after what they refer to, and go before it; runners go before others come, since a
// cluster has one at most.
type applyStep struct {
	kind   store.Kind
	remove bool
}

var applySteps = []applyStep{
	{store.KindZone, false}, {store.KindProfile, false}, {store.KindRunner, true},
	{store.KindRunner, false}, {store.KindProfile, true}, {store.KindZone, true},
}

func (a *applier) run(ctx context.Context) error {
	tx := a.batch.tx
	if err := a.readOwners(ctx, tx); err != nil {
		return err
	}
	given := len(a.Objects)
	if a.Prune {
		if err := a.prune(ctx, tx); err != nil {
			return err
		}
	}
	a.out = make([]Applied, len(a.Objects))
	for _, step := range applySteps {
		var refused refusedObjects
		for i, o := range a.Objects {
			if o.Kind != step.kind || o.Delete != step.remove {
				continue
			}
			a.out[i] = Applied{Kind: o.Kind, Name: o.Name, Action: ActionNone, Pruned: i >= given}
			if err := refused.add(i, o, i >= given, a.apply(a.batch.within(ctx), o, &a.out[i])); err != nil {
				return err
			}
		}
		if err := refused.err(); err != nil { // What comes after would be refused for what did not come before it.
			return err
		}
	}
	lost, err := a.service.batchImpact(ctx, a.batch, a.p.OrgID)
	if err != nil {
		return err
	}
	a.warnings = append(a.warnings, lost...)
	a.warnings = a.warnings[:min(len(a.warnings), maxListed)]
	return a.noteChanges(ctx)
}

// apply makes one object what it is to be.
func (a *applier) apply(ctx context.Context, o ApplyObject, out *Applied) error {
	tx := a.batch.tx
	current, err := tx.ObjectByName(ctx, o.Kind, a.p.OrgID, o.Name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := checkSeen(o, current); err != nil {
		return err
	}
	if current != nil {
		out.Etag = Etag(metaOf(current))
	}
	written := len(tx.written)
	if err := a.put(ctx, o, current); err != nil {
		return err
	}
	id := ""
	if current != nil {
		id = current.ID
	}
	if len(tx.written) > written {
		last := tx.written[len(tx.written)-1]
		id = last.ID
		switch {
		case last.Deleted:
			out.Action = ActionDelete
		case last.Revision == 1:
			out.Action = ActionCreate
		default:
			out.Action = ActionChange
		}
	}
	if current != nil && (a.Owner != "" || out.Action != ActionNone) {
		if err := a.checkOwner(o, current); err != nil {
			return err
		}
	}
	return a.own(ctx, o, id, out)
}

// put makes the edit.
func (a *applier) put(ctx context.Context, o ApplyObject, current *store.Object) error {
	s := a.service
	var warnings []string
	var err error
	switch {
	case o.Delete:
		return a.remove(ctx, o, current)
	case o.Kind == store.KindZone:
		in := *o.Zone
		in.Reason = a.Reason
		_, warnings, err = s.PutZone(ctx, a.p, o.Name, in)
	case o.Kind == store.KindProfile && current == nil:
		in := *o.Profile
		in.DisplayName, in.Reason = o.Name, a.Reason
		_, err = s.CreateProfile(ctx, a.p, in)
	case o.Kind == store.KindProfile:
		in := *o.Profile
		in.Reason = a.Reason
		_, warnings, err = s.UpdateProfile(ctx, a.p, current.ID, ProfilePatch{Mask: []string{"description", "labels", "spec"}, Profile: in})
	default:
		warnings, err = a.putRunner(ctx, o, current)
	}
	a.warnings = append(a.warnings, warnings...)
	return err
}

// wholeRunner is everything of a runner that a file says. What cannot be changed is in it, so that another value is refused.
var wholeRunner = []string{
	"display_name", "identity.zone", "identity.cluster_id", "identity.cluster_name", "identity.runner_group_id", "managed_spec", "profile_bindings",
}

func (a *applier) putRunner(ctx context.Context, o ApplyObject, current *store.Object) ([]string, error) {
	in := *o.Runner
	in.RunnerID, in.Reason = o.Name, a.Reason
	var had *core.Runner
	var err error
	if current != nil {
		if had, err = runnerFrom(current); err != nil {
			return nil, err
		}
	}
	if in.Bindings, err = a.bindings(ctx, in.Bindings, had); err != nil {
		return nil, err
	}
	var warnings []string
	if had == nil {
		_, warnings, err = a.service.CreateRunner(ctx, a.p, in)
	} else {
		_, warnings, err = a.service.UpdateRunner(ctx, a.p, had.ID, RunnerPatch{Mask: wholeRunner, Runner: in})
	}
	return warnings, err
}

// bindings returns bindings with their profiles by UUID. An alias that is the name of the profile says nothing: it is as the runner has it.
func (a *applier) bindings(ctx context.Context, given []core.Binding, had *core.Runner) ([]core.Binding, error) {
	e := fault.Invalidf(fault.ReasonBindingsInvalid, "the bindings are not valid").WithHint(bindingHint)
	out := slices.Clone(given)
	for i := range out {
		b := &out[i]
		if b.ProfileID == "" || spec.IsUUIDShaped(b.ProfileID) {
			continue
		}
		name := b.ProfileID
		profile, err := a.batch.tx.ObjectByName(ctx, store.KindProfile, a.p.OrgID, name)
		if fault.Is(err, fault.NotFound) {
			e.WithField(bindingPath(i)+".profile_template_id", "profile %.80q does not exist, and is not among what is applied", name)
			continue
		}
		if err != nil {
			return nil, err
		}
		b.ProfileID = profile.ID
		if b.Alias == name {
			b.Alias = ""
		}
		if b.Alias == "" && had != nil && slices.ContainsFunc(had.Bindings, func(h core.Binding) bool { return h.ProfileID == profile.ID && h.Alias == name }) {
			b.Alias = name
		}
	}
	return out, orNil(e)
}

// remove deletes an object. One that is not there is as it is to be.
func (a *applier) remove(ctx context.Context, o ApplyObject, current *store.Object) error {
	if current == nil {
		return nil
	}
	switch o.Kind {
	case store.KindZone:
		return a.service.DeleteZone(ctx, a.p, o.Name, DeleteOptions{Reason: a.Reason})
	case store.KindProfile:
		return a.service.DeleteProfile(ctx, a.p, current.ID, DeleteOptions{Reason: a.Reason})
	case store.KindRunner, store.KindTests: // which checkApplication refuses
	}
	return a.service.DeleteRunner(ctx, a.p, current.ID, DeleteOptions{Reason: a.Reason})
}

// checkSeen refuses what was planned for another state.
func checkSeen(o ApplyObject, current *store.Object) error {
	what := string(o.Kind) + " " + o.Name
	switch {
	case o.Etag == nil:
		return nil
	case *o.Etag == "" && current == nil:
		return nil
	case current == nil:
		return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s does not exist any more", what).WithHint("look at the plan again")
	case *o.Etag == "":
		return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s was made meanwhile, by %s", what, current.UpdatedBy).WithHint("look at the plan again")
	}
	return checkEtag(*o.Etag, what, metaOf(current))
}

// noteChanges says in the result what each edit changes.
func (a *applier) noteChanges(ctx context.Context) error {
	at := make(map[string]int, len(a.out))
	for i, o := range a.out {
		at[string(o.Kind)+" "+o.Name] = i
	}
	for _, o := range a.batch.tx.written {
		list, err := objectChanges(ctx, a.batch.tx, o)
		if err != nil {
			return err
		}
		if i, known := at[string(o.Kind)+" "+o.Name]; known {
			a.out[i].Changes = list
		}
	}
	return nil
}

// refusedObjects collects what refuses objects of one step.
type refusedObjects struct{ all []*fault.Error }

// add notes a refusal. An error that is none ends the apply.
func (r *refusedObjects) add(i int, o ApplyObject, pruned bool, err error) error {
	if err == nil {
		return nil
	}
	f := fault.From(err)
	switch f.Code {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.Precondition, fault.Conflict, fault.Denied:
	default:
		return err
	}
	f = f.Clone()
	at := fmt.Sprintf("objects[%d]", i)
	what := string(o.Kind) + " " + o.Name
	if len(f.Fields) == 0 {
		f.Fields = []fault.Field{{Description: f.Message}}
	}
	for j := range f.Fields {
		path := at
		if f.Fields[j].Path != "" {
			path += "." + f.Fields[j].Path
		}
		f.Fields[j].Path, f.Fields[j].Line, f.Fields[j].Column = path, 0, 0
	}
	switch {
	case pruned:
		f.Message = what + ", which is not among the objects any more, cannot be deleted: " + f.Message
	case !strings.HasPrefix(f.Message, what+" "):
		f.Message = what + ": " + f.Message
	}
	r.all = append(r.all, f)
	return nil
}

// err returns all of them as one, which is as the first.
func (r *refusedObjects) err() error {
	if len(r.all) == 0 {
		return nil
	}
	first := r.all[0]
	for _, f := range r.all[1:] {
		first.Fields = append(first.Fields, f.Fields...)
	}
	if n := len(r.all); n > 1 {
		first.Message = fmt.Sprintf("%d objects are refused", n)
	}
	first.Fields = first.Fields[:min(len(first.Fields), 5*maxListed)]
	return first
}
