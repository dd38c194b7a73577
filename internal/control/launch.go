package control

import (
	"context"
	"errors"
	"slices"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/tracing"
)

const (
	// MaxReplans is how often a launch is planned again because the configuration changed or a runner filled up meanwhile.
	MaxReplans = 3
	// replanRetry is when a caller may try again after that.
	replanRetry = time.Second
	// ApplyTimeout bounds one hand-over to a runner.
	ApplyTimeout = time.Minute
)

// errFull is how a launch transaction says that the runner has no room any more.
var errFull = errors.New("the runner is full")

// launch is Launch without its being counted.
func (s *Service) launch(ctx context.Context, p core.Principal, l *specpb.Launch) (_ *core.Sandbox, _ *plan.Plan, err error) {
	if err := s.allow(ctx, p, "Launch", audit.Target{Kind: store.ChangeSandbox}); err != nil {
		return nil, nil, err
	}
	ctx, span := tracing.Start(ctx, "launch")
	defer func() { span.End(err) }()
	accepted := s.now()
	if l, err = s.leased(ctx, p, l); err != nil {
		return nil, nil, err
	}
	fresh := false
	var secrets *given
	room := &roomWait{service: s, orgID: p.OrgID}
	for attempt := 0; attempt <= MaxReplans; attempt++ {
		began, waited := time.Now(), room.total
		pl, err := room.traced(ctx, p, l, fresh)
		if err != nil {
			return nil, nil, err
		}
		s.meter.Took(PhasePlan, time.Since(began)-(room.total-waited))
		if secrets == nil { // Nothing is made before all of them are there.
			if secrets, err = s.secretsOf(ctx, p.OrgID, l); err != nil {
				return nil, nil, err
			}
		}
		sb := s.sandboxFrom(p, pl, accepted, room.events()...)
		sb.Timeline = append(sb.Timeline, secrets.event(sb.CreatedAt)...)
		failpoint.Hit(fpLaunchCommit)
		began = time.Now()
		err = s.commitTraced(ctx, p, pl, sb)
		s.tookSince(PhaseCommit, began)
		switch {
		case err == nil:
			room.count()
			span.Set("berm.sandbox", sb.ID)
			span.Set("berm.runner", sb.RunnerID)
			span.Set("berm.profile", sb.ProfileName)
			return s.start(ctx, pl, sb, secrets), pl, nil
		case errors.Is(err, errFull), fault.Is(err, fault.Conflict):
			fresh = true // what the plan was made from is not there any more
			if room.total > waited && errors.Is(err, errFull) {
				attempt-- // Others that waited for the same room were quicker. It waits on, for no longer than it may in all.
			}
		default:
			s.doubt(sb, err)
			return nil, nil, err
		}
	}
	return nil, nil, fault.New(fault.Unavailable, fault.ReasonReplanExhausted,
		"the configuration changed, or runners filled up, during each of %d attempts to launch", MaxReplans+1).WithRetry(replanRetry)
}

// plan makes a plan from the cached configuration. A refusal is only believed when it was made from what the store says now:
// another gateway may have changed the configuration, or sandboxes may have ended.
func (s *Service) plan(ctx context.Context, p core.Principal, l *specpb.Launch, fresh bool, opts plan.Options) (*plan.Plan, error) {
	opts.Actor = p.Actor
	for {
		snap, err := s.snapshot(ctx, p.OrgID, fresh)
		if err != nil {
			return nil, err
		}
		opts.Seed = s.seed()
		pl, err := plan.Make(snap, l, opts)
		if err == nil || fresh || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Unimplemented) {
			return pl, err
		}
		fresh = true
	}
}

func (s *Service) commitTraced(ctx context.Context, p core.Principal, pl *plan.Plan, sb *core.Sandbox) (err error) {
	ctx, span := tracing.Start(ctx, "launch.commit")
	defer func() { span.End(err) }()
	return s.commitLaunch(ctx, p, pl, sb)
}

// commitLaunch writes everything that a launch is, or nothing.
func (s *Service) commitLaunch(ctx context.Context, p core.Principal, pl *plan.Plan, sb *core.Sandbox) error {
	return s.used.change(func() error {
		err := s.store.Update(ctx, func(tx store.Tx) error { return s.writeLaunch(ctx, tx, p, pl, sb) })
		if err == nil {
			s.used.add(sb.RunnerUUID, sb.Reserved, 1)
		}
		return err
	})
}

func (s *Service) writeLaunch(ctx context.Context, tx store.Tx, p core.Principal, pl *plan.Plan, sb *core.Sandbox) error {
	if err := tx.AssertCurrent(ctx, storeRefs(p.OrgID, pl.Refs)); err != nil {
		return err
	}
	if err := s.checkUsage(ctx, tx, p, pl, sb.CreatedAt); err != nil {
		return err
	}
	fits, err := tx.Reserve(ctx, sb.RunnerUUID, sb.Reserved)
	if err != nil {
		return err
	}
	if !fits {
		return errFull
	}
	return tx.InsertSandbox(ctx, sb)
}

func storeRefs(orgID string, refs []plan.Ref) []store.Ref {
	out := make([]store.Ref, len(refs))
	for i, r := range refs {
		out[i] = store.Ref{Kind: store.Kind(r.Kind), OrgID: orgID, ID: r.ID, Revision: r.Revision}
	}
	return out
}

// checkUsage holds a launch to the usage guardrails, by counters that only the transaction knows.
func (s *Service) checkUsage(ctx context.Context, r store.Reader, p core.Principal, pl *plan.Plan, now time.Time) error {
	if len(pl.UsageChecks) == 0 {
		return nil
	}
	var failed error
	violations := plan.CheckUsage(pl.UsageChecks, func(subject plan.Subject) plan.Counters {
		who := store.UsageSubject{OrgID: p.OrgID}
		switch subject {
		case plan.SubjectProfile:
			who.ProfileID = pl.Binding.Profile.ID
		case plan.SubjectUser:
			who.UserID = p.TokenID
		case plan.SubjectOrg:
		}
		u, err := r.Usage(ctx, who, now)
		if err != nil && failed == nil {
			failed = err
		}
		return plan.Counters{Concurrent: u.Concurrent, StartsLastMinute: u.StartsLastMin, VCPUMilliHours: u.VCPUMillisHours}
	})
	if failed != nil {
		return failed
	}
	return plan.UsageRefusal(violations)
}

// sandboxFrom returns the row of a planned sandbox. waits are what happened between its acceptance and the plan.
func (s *Service) sandboxFrom(p core.Principal, pl *plan.Plan, accepted time.Time, waits ...core.Event) *core.Sandbox {
	now := s.now()
	r, b := pl.Runner.Runner, pl.Binding
	sb := &core.Sandbox{
		ID: s.newID(), OrgID: p.OrgID,
		RunnerUUID: r.ID, RunnerID: r.RunnerID, RunnerRevision: r.Revision,
		ProfileID: b.Profile.ID, ProfileName: b.Name, ProfileRevision: b.Profile.Revision, ZoneName: r.Zone,
		Status: core.StatusPending, ServerID: s.owner(), Observation: core.ObservationCurrent,
		Tags: pl.Launch.GetTags(), CreatedBy: p.Actor, UserID: p.TokenID, CreatedAt: now,
		Reserved: pl.Reserve, Digest: pl.Digest, Decision: pl.Record(), Launch: pl.Launch,
		Timeline: append(append([]core.Event{{Name: "accepted", At: accepted, Message: "by " + p.Actor}}, waits...),
			core.Event{Name: eventPlanned, At: now, Message: "runner " + r.RunnerID + ", profile " + b.Name, Attrs: s.plannedAttrs(pl)},
			core.Event{Name: "reserved", At: now}),
	}
	if limit, ok := pl.Resolved.Lookup("resource_defaults.cpu_limit"); ok {
		sb.CPULimitMillis, _ = limit.Amount()
	}
	if pl.Runner.Zone != nil {
		sb.ZoneRevision = pl.Runner.Zone.Revision
	}
	if pl.LifetimeSeconds > 0 {
		sb.ExpiresAt = now.Add(time.Duration(pl.LifetimeSeconds) * time.Second)
	}
	return sb
}

// eventPlanned is the event that remembers which backend was chosen, for the time when its runner is gone.
const (
	eventPlanned  = "planned"
	attrBackend   = "backend"
	attrIsolation = "isolation"
	// attrUnenforced, with a path behind it, says why a field that this kind of backend enforces was only recorded there.
	attrUnenforced = "unenforced:"
	// attrNote, with a path behind it, says how sure it is that a field holds there.
	attrNote = "note:"
	// attrIdle is after how many seconds without traffic the sandbox is stopped.
	attrIdle = "idle_seconds"
	// attrLease is the lease that the sandbox lives under, attrPurpose what it is for.
	attrLease   = "lease_id"
	attrPurpose = "purpose"
)

// plannedAttrs is what a sandbox remembers of its launch, besides the request itself.
func (s *Service) plannedAttrs(pl *plan.Plan) map[string]string {
	attrs := s.backendAttrs(pl.Runner.Runner.ID, pl.Resolved)
	for key, value := range map[string]string{attrIdle: idleText(pl.IdleSeconds), attrLease: pl.Launch.GetLeaseId(), attrPurpose: pl.Launch.GetPurpose()} {
		if value == "" {
			continue
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[key] = value
	}
	return attrs
}

func (s *Service) backendAttrs(runnerUUID string, resolved *resolve.Resolved) map[string]string {
	k, ok := s.contacts.get(runnerUUID)
	if !ok || k.link == nil {
		return nil
	}
	info := k.link.Info()
	class := ""
	if v, ok := resolved.Lookup("runtime_class"); ok {
		class, _ = v.Any().(string)
	}
	rt := info.Of(class)
	attrs := map[string]string{attrBackend: info.Kind, attrIsolation: rt.Isolation}
	_, mode := egress.Selected(resolved.Message().GetNetwork().GetEgress())
	for _, e := range rt.Enforcement {
		if e.Name == "egress:"+mode.GetType() && e.Note != "" {
			for _, path := range []string{"network.egress.default", "network.egress.selected", "network.egress.modes", "network.egress.require"} {
				attrs[attrNote+path] = e.Note
			}
		}
	}
	for _, why := range []map[string]string{info.Unenforced, rt.Unenforced} {
		for path, why := range why {
			attrs[attrUnenforced+path] = why
		}
	}
	return attrs
}

// rememberedAttrs returns what a sandbox remembers of its backend.
func rememberedAttrs(sb *core.Sandbox) map[string]string {
	for _, e := range sb.Timeline {
		if e.Name == eventPlanned {
			return e.Attrs
		}
	}
	return nil
}

// start hands a committed sandbox to its runner and returns it as it then is.
func (s *Service) start(ctx context.Context, pl *plan.Plan, sb *core.Sandbox, secrets *given) *core.Sandbox {
	s.enter(sb, applying)
	s.live.belongsTo(sb.ID, tracing.Parent(ctx))
	failpoint.Hit(fpLaunchCommitted)
	// The sandbox exists now: a caller who goes away does not leave it half-way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ApplyTimeout)
	defer cancel()
	began := time.Now()
	s.hand(ctx, sb, pl.Resolved.Message(), pl.Layers(), secrets, pl.Runner.Runner.Managed.AllowPrivilegedProfileAnnotation)
	s.tookSince(PhaseSubmit, began)
	if row, err := s.peek(ctx, sb.OrgID, sb.ID); err == nil {
		now := *row
		now.Decision, now.Launch = sb.Decision, sb.Launch
		if now.Service == nil && !now.Status.Terminal() {
			now.Service = s.foretold(sb, pl.Resolved.Message())
		}
		return s.overlay(&now)
	}
	return sb
}

// foretold is where the exposed ports of a sandbox are going to be reached, nil where that is the runner's to find: published clients read it
// in the answer to the launch, and never again.
func (s *Service) foretold(sb *core.Sandbox, resolved *specpb.ProfileSpec) *core.Service {
	link, _ := s.contacts.linkOf(sb.RunnerUUID)
	if link == nil || !slices.Contains(link.Info().Features, backend.FeaturePorts) {
		return nil
	}
	out, refused := backend.Expose(resolved.GetNetwork(), sb.Launch)
	if len(refused) > 0 { // The runner refuses it, too, and says so.
		return nil
	}
	return out
}

// told returns what may be said of an error where callers read it: the message and the violations, never the cause.
func told(err error) string {
	f := fault.From(err)
	if f.Code == fault.Internal {
		return "internal error"
	}
	return f.Clone().WithCause(nil).Error()
}

// hand gives a sandbox to its runner and notes the outcome. privileged is the runner's word about what its profiles carry.
func (s *Service) hand(ctx context.Context, sb *core.Sandbox, resolved *specpb.ProfileSpec, layers []resolve.Input, secrets *given, privileged bool) {
	link, since := s.contacts.linkOf(sb.RunnerUUID)
	if link == nil {
		s.handed(ctx, sb, s.unreachable(sb, since))
		return
	}
	ctx, span := tracing.Start(ctx, "launch.submit")
	err := link.Apply(ctx, &runner.Assignment{
		Work: backend.Work{
			SandboxID: sb.ID, OrgID: sb.OrgID, UserID: sb.UserID, RunnerID: sb.RunnerID, ProfileName: sb.ProfileName, ZoneName: sb.ZoneName,
			Spec: resolved, Digest: sb.Digest, Launch: sb.Launch, Secrets: secrets.secrets, Privileged: privileged,
		},
		Layers: layers,
	})
	span.End(err)
	failpoint.Hit(fpApplied)
	s.handed(ctx, sb, err)
}

// handed notes what became of a hand-over. One whose outcome is not known is asked for again: the runner takes a sandbox
// once, however often it is asked.
func (s *Service) handed(ctx context.Context, sb *core.Sandbox, err error) {
	state := applied
	unknown := fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Deadline) || fault.Is(err, fault.Canceled)
	if unknown {
		state = applyUnknown
	}
	s.live.update(sb.ID, func(e *liveSandbox) {
		if e.apply == applying {
			close(e.handed)
		}
		if e.apply != applied {
			e.apply = state
		}
	})
	switch {
	case err == nil:
	case unknown:
		s.log.WarnContext(ctx, "it is not known whether a runner took a sandbox over", "sandbox", sb.ID, "runner", sb.RunnerID, "error", err)
		s.tasks.run(func(ctx context.Context) {
			if sleep(ctx, applyRetry) {
				s.applyAgain(ctx, sb.ID)
			}
		})
	default:
		now := s.now()
		s.submit(&backend.Observation{
			SandboxID: sb.ID, Phase: backend.PhaseEnded, At: now, Failed: true, Reason: core.EndStartFailed,
			Message: told(err), Events: []core.Event{{Name: "ended", At: now, Message: core.EndStartFailed}},
		})
		if _, waited := s.wait(ctx, sb.OrgID, sb.ID, Ended); waited != nil {
			s.log.WarnContext(ctx, "a sandbox that a runner turned down is not yet marked as failed", "sandbox", sb.ID, "error", waited)
		}
	}
}
