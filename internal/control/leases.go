package control

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// LeaseInput is what a caller says about a lease.
type LeaseInput struct {
	TTL, Grace time.Duration
	Purpose    string
}

// LeaseView is a lease as it is now.
type LeaseView struct {
	// Lease has the live state: LOST is known in memory only.
	Lease *core.Lease
	// RenewedAt is when this server heard of it last, ExpiresAt until when a renewal comes in time, StopsAt when its sandboxes are
	// stopped. All are zero once it has ended.
	RenewedAt, ExpiresAt, StopsAt time.Time
	// Sandboxes counts those that this server knows and that have not ended.
	Sandboxes int
}

// CreateLease makes a lease. Sandboxes that are launched with its id are stopped when it is not renewed any more.
func (s *Service) CreateLease(ctx context.Context, p core.Principal, in LeaseInput) (*LeaseView, error) {
	if err := s.allow(ctx, p, "CreateLease", audit.Target{Kind: store.ChangeLease, Reason: in.Purpose}); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	l := &core.Lease{
		ID: s.newID(), OrgID: p.OrgID, Purpose: in.Purpose, CreatedBy: p.Actor, UserID: p.TokenID, TTL: in.TTL, Grace: in.Grace, CreatedAt: s.now(),
	}
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.InsertLease(ctx, l) }); err != nil {
		return nil, err
	}
	s.watchLease(l)
	return s.leaseView(l), nil
}

func (in LeaseInput) check() error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid lease")
	if in.TTL < core.MinLeaseTTL || in.TTL > core.MaxLeaseTTL {
		e.WithField("ttl_seconds", "must be between %d and %d", int(core.MinLeaseTTL/time.Second), int(core.MaxLeaseTTL/time.Second))
	}
	if in.Grace < 0 || in.Grace > core.MaxLeaseGrace {
		e.WithField("grace_seconds", "must be between 0 and %d", int(core.MaxLeaseGrace/time.Second))
	}
	checkText(e, "purpose", in.Purpose, core.MaxPurpose)
	if strings.ContainsFunc(in.Purpose, unicode.IsControl) {
		e.WithField("purpose", "has a control character, such as a line break")
	}
	return orNil(e)
}

// GetLease returns a lease, also one that has ended.
func (s *Service) GetLease(ctx context.Context, p core.Principal, id string) (*LeaseView, error) {
	if err := s.allow(ctx, p, "GetLease"); err != nil {
		return nil, err
	}
	l, err := s.lease(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	return s.leaseView(l), nil
}

// ListLeases lists leases that have not ended, by id.
func (s *Service) ListLeases(ctx context.Context, p core.Principal, page Page) ([]*LeaseView, string, error) {
	if err := s.allow(ctx, p, "ListLeases"); err != nil {
		return nil, "", err
	}
	var all []*core.Lease
	if err := s.store.View(ctx, func(r store.Reader) (err error) {
		all, err = r.Leases(ctx, p.OrgID)
		return err
	}); err != nil {
		return nil, "", err
	}
	some, next, err := paged(scope{orgID: p.OrgID, kind: "lease"}, page, all, func(l *core.Lease) string { return l.ID })
	if err != nil {
		return nil, "", err
	}
	out := make([]*LeaseView, len(some))
	for i, l := range some {
		out[i] = s.leaseView(l)
	}
	return out, next, nil
}

// RenewLease is the heartbeat of a holder. With one server it is not written: what a restart forgets, it counts anew. Servers that share a
// database find there that it was renewed. One that has ended is refused: its sandboxes are being stopped, or have been.
func (s *Service) RenewLease(ctx context.Context, p core.Principal, id string) (*LeaseView, error) {
	if err := s.allow(ctx, p, "RenewLease"); err != nil {
		return nil, err
	}
	began := s.now()
	v, err := s.renewLease(ctx, p, id)
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition) {
		s.unheard(ctx, began)
	}
	return v, err
}

// renewLease notes a renewal in memory, and where others have to know in the store: other servers, or who is about to write the end of it here.
func (s *Service) renewLease(ctx context.Context, p core.Principal, id string) (*LeaseView, error) {
	l, err := s.knownLease(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	for write := s.shares(); l != nil && !l.State.Ended(); l, write = s.leases.get(id), true {
		ends := notWritten
		if write {
			ends = s.leases.endsOf(id)
			renewed, err := s.writeRenewal(ctx, l)
			if err != nil {
				return nil, err
			}
			if !renewed {
				break
			}
		}
		if s.leases.renewed(id, ends, s.now(), s.feed.touched, s.live.under) {
			return s.leaseView(l), nil
		}
	}
	if l, err = s.lease(ctx, p.OrgID, id); err != nil {
		return nil, err
	}
	s.watchLease(l)
	return nil, leaseEnded(l)
}

// writeRenewal counts a renewal in the store, and reports false for a lease that has ended.
func (s *Service) writeRenewal(ctx context.Context, l *core.Lease) (renewed bool, err error) {
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		renewed, err = tx.RenewLease(ctx, l.OrgID, l.ID)
		return err
	})
	return renewed, err
}

// leaseEnded is how a lease that has ended is refused.
func leaseEnded(l *core.Lease) error {
	return fault.Preconditionf(fault.ReasonLeaseEnded, "lease %s is %s since %s", l.ID, l.State, l.EndedAt.UTC().Format(time.RFC3339)).
		WithMeta("lease_id", l.ID).WithMeta("state", string(l.State)).
		WithHint("make a new one; what has ended does not come back: berm lease create")
}

// ReleaseLease gives a lease back: its sandboxes are told to end, or go on without one. One that has ended stays as it is.
func (s *Service) ReleaseLease(ctx context.Context, p core.Principal, id string, keep bool) (*LeaseView, error) {
	if err := s.allow(ctx, p, "ReleaseLease", audit.Target{Kind: store.ChangeLease, Ref: id}); err != nil {
		return nil, err
	}
	state := core.LeaseReleased
	if keep {
		state = core.LeaseDropped
	}
	l, err := s.lease(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	if err := s.endLease(ctx, l, state); err != nil {
		return nil, err
	}
	if l, err = s.lease(ctx, p.OrgID, id); err != nil {
		return nil, err
	}
	return s.leaseView(l), nil
}

// lease reads a lease.
func (s *Service) lease(ctx context.Context, orgID, id string) (l *core.Lease, err error) {
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		l, err = r.Lease(ctx, orgID, id)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = fault.NotFoundf(fault.ReasonLeaseNotFound, "lease %.80q does not exist", id)
	}
	return l, err
}

// knownLease is lease from memory, where that has it.
func (s *Service) knownLease(ctx context.Context, orgID, id string) (*core.Lease, error) {
	if l := s.leases.get(id); l != nil && l.OrgID == orgID {
		return l, nil
	}
	l, err := s.lease(ctx, orgID, id)
	if err == nil {
		s.watchLease(l)
	}
	return l, err
}

// leased returns a launch with the lease that it is to live under: the one that it names, else the one that its caller does.
func (s *Service) leased(ctx context.Context, p core.Principal, in *specpb.Launch) (*specpb.Launch, error) {
	out := in
	if p.LeaseID != "" && in.GetLeaseId() == "" {
		out = proto.CloneOf(in)
		if out == nil {
			out = &specpb.Launch{}
		}
		out.LeaseId = p.LeaseID
	}
	if out.GetLeaseId() == "" {
		return out, nil
	}
	l, err := s.knownLease(ctx, p.OrgID, out.GetLeaseId())
	if err == nil && l.State.Ended() {
		err = leaseEnded(l)
	}
	return out, err
}

// forkLease returns the lease of a fork: that of the other sandbox, unless that goes on without one.
func (s *Service) forkLease(ctx context.Context, p core.Principal, id string) string {
	if id == "" {
		return ""
	}
	l, err := s.knownLease(ctx, p.OrgID, id)
	if fault.Is(err, fault.NotFound) || err == nil && l.State == core.LeaseDropped {
		return ""
	}
	return id
}

// leaseView adds to a lease what memory knows of it.
func (s *Service) leaseView(l *core.Lease) *LeaseView {
	row := *l
	v := &LeaseView{Lease: &row, Sandboxes: s.live.countUnder(l.ID)}
	if row.State.Ended() {
		return v
	}
	last, lost := s.leases.stands(l.ID)
	if last.IsZero() {
		last = s.now()
	}
	if lost {
		row.State = core.LeaseLost
	}
	// Times in memory tell how long; what people read is by the clock.
	v.RenewedAt, v.ExpiresAt, v.StopsAt = last, last.Add(row.TTL), last.Add(row.TTL+row.Grace)
	return v
}

// countUnder returns how many sandboxes of a lease have not ended.
func (t *liveTable) countUnder(leaseID string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byLease[leaseID])
}

// under returns the sandboxes of a lease that have not ended.
func (t *liveTable) under(leaseID string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.byLease[leaseID]))
	for id := range t.byLease[leaseID] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
