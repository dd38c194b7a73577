package control

import (
	"context"
	"fmt"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// MaxApplied is how many objects one apply takes.
const MaxApplied = 10_000

// ApplyObject is a zone, a profile or a runner as it is to be: everything that is not said has its default. Exactly one of Zone, Profile
// and Runner is set, unless Delete is.
type ApplyObject struct {
	Kind store.Kind
	// Name is that of a zone, the display name of a profile, the runner_id of a runner.
	Name    string
	Zone    *ZoneInput
	Profile *ProfileInput
	// Runner may name the profiles of its bindings by display name, also those that the same apply makes.
	Runner *RunnerInput
	Delete bool
	// Etag, when not nil, is the state that the caller has seen; "" is that there was no such object.
	Etag *string
}

// described reports whether the part of its kind is there.
func (o *ApplyObject) described() bool {
	switch o.Kind {
	case store.KindZone:
		return o.Zone != nil
	case store.KindProfile:
		return o.Profile != nil
	case store.KindRunner:
		return o.Runner != nil
	case store.KindTests:
	}
	return false
}

// Application is a set of objects that are applied together.
type Application struct {
	Objects []ApplyObject
	// Owner, when not empty, is the set that the objects belong to from then on. One that belongs to another set is refused, unless
	// TakeOver and it is not to be deleted; without an Owner, when it would be changed. Prune deletes what belongs to Owner and is not among
	// Objects.
	Owner           string
	TakeOver, Prune bool
	Reason          string
}

// Action is what an apply does with an object.
type Action string

// The actions. Own: the object stays as it is, and belongs to another set.
const (
	ActionCreate Action = "create"
	ActionChange Action = "change"
	ActionOwn    Action = "own"
	ActionNone   Action = "none"
	ActionDelete Action = "delete"
)

// Applied is what became of an object.
type Applied struct {
	Kind   store.Kind
	Name   string
	Action Action
	// Etag is that of the state before, "" when there was none.
	Etag    string
	Changes []spec.Change
	// PreviousOwner is the set that it belonged to, when that is another now. Pruned: it was not among the objects given.
	PreviousOwner string
	Pruned        bool
}

// Apply makes all objects what they are to be in one transaction: all of it or nothing. Each is created, changed or deleted by the edit
// that does so alone, with all its checks; in an order in which they can need each other. The result has one element for each object,
// then those that were pruned, and warnings as edits have them.
func (s *Service) Apply(ctx context.Context, p core.Principal, a Application) ([]Applied, []string, error) {
	if err := s.allow(ctx, p, "Apply", audit.Target{Kind: "owner", Ref: a.Owner, Reason: a.Reason}); err != nil {
		return nil, nil, err
	}
	if err := checkApplication(a); err != nil {
		return nil, nil, err
	}
	var run *applier
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		run = &applier{service: s, p: p, Application: a, batch: newBatch(tx)}
		return run.run(ctx)
	})
	if err != nil {
		return nil, nil, err
	}
	if !isPreview(ctx) {
		for _, fn := range run.batch.after {
			fn()
		}
	}
	return run.out, append(run.warnings, warned...), nil
}

// checkApplication checks what can be seen without the store.
func checkApplication(a Application) error {
	if n := len(a.Objects); n > MaxApplied {
		return fault.Invalidf(fault.ReasonLimitExceeded, "%d objects, the limit of one apply is %d", n, MaxApplied).WithHint("apply them in parts")
	}
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid apply")
	if a.Owner != "" {
		checkName(e, "owner", a.Owner)
	} else if a.Prune {
		e.WithField("prune", "needs an owner: what belongs to it, and is not given, is deleted")
	}
	checkText(e, "reason", a.Reason, MaxReason)
	first := map[string]int{}
	for i, o := range a.Objects {
		at := fmt.Sprintf("objects[%d]", i)
		switch o.Kind {
		case store.KindZone, store.KindProfile, store.KindRunner:
		default:
			e.WithField(at+".kind", "%.40q is none of zone, profile, runner", o.Kind)
			continue
		}
		if len(e.Fields) < maxListed {
			checkName(e, at+".name", o.Name)
		}
		if !o.Delete && !o.described() {
			e.WithField(at, "does not say what the %s is to be", o.Kind)
		}
		key := string(o.Kind) + " " + o.Name
		if j, taken := first[key]; taken && len(e.Fields) < maxListed {
			e.WithField(at+".name", "%s is objects[%d] already", key, j)
		}
		first[key] = i
	}
	return orNil(e)
}
