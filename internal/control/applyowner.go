package control

import (
	"context"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func (a *applier) readOwners(ctx context.Context, tx store.Tx) error {
	list, err := tx.Owners(ctx, a.p.OrgID)
	if err != nil {
		return err
	}
	a.owners = make(map[string]store.Owner, len(list))
	for _, o := range list {
		a.owners[o.ID] = o
	}
	return nil
}

// checkOwner refuses an object of another set, unless it is taken over. Nothing is taken over to be deleted: what a plan found to belong to
// this set, and another took since, stays.
func (a *applier) checkOwner(o ApplyObject, current *store.Object) error {
	owner, owned := a.owners[current.ID]
	if !owned || owner.Owner == a.Owner || a.TakeOver && !o.Delete {
		return nil
	}
	hint := "change it where it comes from, or take it over: berm apply --take-over"
	if o.Delete {
		hint = "delete it where it comes from; taking over never deletes"
	}
	return fault.Preconditionf(fault.ReasonOwnedByAnother, "%s %s belongs to %q, since %s, by %s", o.Kind, o.Name, owner.Owner, owner.At.UTC().Format("2006-01-02 15:04:05 MST"), owner.By).
		WithMeta("owner", owner.Owner).
		WithHint("%s", hint)
}

// own gives an object to the set.
func (a *applier) own(ctx context.Context, o ApplyObject, id string, out *Applied) error {
	if o.Delete || a.Owner == "" || id == "" {
		return nil
	}
	had := a.owners[id].Owner
	if had == a.Owner {
		return nil
	}
	out.PreviousOwner = had
	if out.Action == ActionNone {
		out.Action = ActionOwn
	}
	return a.batch.tx.SetOwner(ctx, a.p.OrgID, store.Owner{Kind: o.Kind, ID: id, Owner: a.Owner, By: a.p.Actor, At: a.service.now()})
}

// prune adds the deletion of what belongs to the set and is not given.
func (a *applier) prune(ctx context.Context, tx store.Tx) error {
	given := make(map[string]bool, len(a.Objects))
	for _, o := range a.Objects {
		given[string(o.Kind)+" "+o.Name] = true
	}
	list, err := tx.Owners(ctx, a.p.OrgID) // in an order that does not change
	if err != nil {
		return err
	}
	for _, owner := range list {
		if owner.Owner != a.Owner {
			continue
		}
		o, err := tx.Object(ctx, owner.Kind, a.p.OrgID, owner.ID)
		if err != nil {
			return err
		}
		if given[string(o.Kind)+" "+o.Name] {
			continue
		}
		a.Objects = append(a.Objects, ApplyObject{Kind: o.Kind, Name: o.Name, Delete: true})
	}
	if len(a.Objects) > MaxApplied {
		return fault.Invalidf(fault.ReasonLimitExceeded, "%d objects with those that would be pruned, the limit of one apply is %d", len(a.Objects), MaxApplied)
	}
	return nil
}
