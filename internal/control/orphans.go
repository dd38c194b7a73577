package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// DefaultOrphanAge is how long nobody is in contact with a sandbox before it counts as an orphan, unless asked otherwise.
	DefaultOrphanAge = time.Hour
	// MaxOrphanAge is the most that may be asked for.
	MaxOrphanAge = 365 * 24 * time.Hour
	// tellContactEvery is how often servers that share a database tell each other of contact with a sandbox that may be idle for ever.
	tellContactEvery = 15 * time.Minute
)

// OrphanReason is why a sandbox seems to have no owner any more.
type OrphanReason string

// The reasons.
const (
	OrphanLeaseLost OrphanReason = "LEASE_LOST"
	OrphanTokenGone OrphanReason = "TOKEN_GONE"
	OrphanNoContact OrphanReason = "NO_CONTACT"
)

// Orphan is a sandbox whose owner seems to be gone. Whether that is so is not known.
type Orphan struct {
	Sandbox *core.Sandbox
	Reasons []OrphanReason
	// Why is the reasons in words.
	Why              string
	LeaseID, Purpose string
	// Contact is when somebody was last in contact with it, zero if not since this server knows of.
	Contact time.Time
}

// ListOrphans lists sandboxes that have not ended and whose owner seems to be gone, newest first: their lease is lost, or they have none and
// their token is not valid any more, or nobody was in contact with them for as long as older says.
func (s *Service) ListOrphans(ctx context.Context, p core.Principal, older time.Duration, page Page) ([]*Orphan, string, error) {
	if err := s.allow(ctx, p, "ListOrphans"); err != nil {
		return nil, "", err
	}
	if older < 0 || older > MaxOrphanAge {
		return nil, "", fault.Invalidf(fault.ReasonFieldInvalid, "invalid list request").
			WithField("older_than_seconds", "must be between 0 and %d", int(MaxOrphanAge/time.Second))
	}
	c := scope{orgID: p.OrgID, kind: "orphan", filter: filterText(older.String())}
	sp, err := c.page(page, DefaultSandboxPage)
	if err != nil {
		return nil, "", err
	}
	look := &orphanLook{Service: s, older: older, now: s.now(), gone: map[string]string{}, leases: map[string]*core.Lease{}}
	var out []*Orphan
	for want, scanned := sp.Size, 0; ; sp.Size = want - len(out) {
		rows := 0
		err := s.store.View(ctx, func(r store.Reader) error {
			all, next, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: p.OrgID}, sp)
			if err != nil {
				return err
			}
			rows, sp.After = len(all), next
			some, err := look.at(ctx, r, p.OrgID, all)
			out = append(out, some...)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		if scanned += rows; sp.After == "" || len(out) >= want || rows < sp.Size || scanned >= MaxListScan {
			return out, c.token(sp.After), nil
		}
	}
}

// orphanLook is one look for orphans.
type orphanLook struct {
	*Service
	older time.Duration
	now   time.Time
	// gone says of tokens that are not valid any more since when; nil before they were read. leases are those that were read.
	gone   map[string]string
	read   bool
	leases map[string]*core.Lease
}

// at returns the orphans among some rows.
func (l *orphanLook) at(ctx context.Context, r store.Reader, orgID string, rows []*core.Sandbox) ([]*Orphan, error) {
	if !l.read {
		tokens, err := r.Tokens(ctx, orgID)
		if err != nil {
			return nil, err
		}
		l.read = true
		for _, t := range tokens {
			switch {
			case !t.RevokedAt.IsZero():
				l.gone[t.ID] = "was revoked at " + t.RevokedAt.UTC().Format(time.RFC3339)
			case !tokenValid(t, l.now):
				l.gone[t.ID] = "expired at " + t.ExpiresAt.UTC().Format(time.RFC3339)
			}
		}
	}
	elsewhere, err := l.contactElsewhere(ctx, r, rows)
	if err != nil {
		return nil, err
	}
	var out []*Orphan
	for _, row := range rows {
		o, err := l.orphan(ctx, r, row, elsewhere[row.ID])
		if err != nil {
			return nil, err
		}
		if len(o.Reasons) > 0 {
			out = append(out, o)
		}
	}
	return out, nil
}

// orphan says what speaks for a sandbox having no owner: nothing in most cases. elsewhere is the contact that other servers told of.
func (l *orphanLook) orphan(ctx context.Context, r store.Reader, row *core.Sandbox, elsewhere time.Time) (*Orphan, error) {
	attrs := rememberedAttrs(row)
	o := &Orphan{Sandbox: l.overlay(row), LeaseID: attrs[attrLease], Purpose: attrs[attrPurpose]}
	if o.Sandbox.Status.Terminal() || o.Sandbox.Status == core.StatusTerminating {
		return o, nil
	}
	lease, err := l.leaseIn(ctx, r, row.OrgID, o.LeaseID)
	if err != nil {
		return nil, err
	}
	var why []string
	say := func(reason OrphanReason, text string) {
		o.Reasons = append(o.Reasons, reason)
		why = append(why, text)
	}
	if lease != nil && lease.State != core.LeaseDropped {
		if o.Purpose == "" {
			o.Purpose = lease.Purpose
		}
		last, lost := l.Service.leases.stands(lease.ID)
		switch {
		case lease.State.Ended():
			say(OrphanLeaseLost, "its lease ended at "+lease.EndedAt.UTC().Format(time.RFC3339)+", and it is not stopped yet")
		case lost:
			say(OrphanLeaseLost, "its lease was not renewed since "+last.UTC().Format(time.RFC3339))
		}
		o.Why = strings.Join(why, "; ")
		return o, nil
	}
	if gone, ok := l.gone[row.UserID]; ok {
		say(OrphanTokenGone, row.CreatedBy+" "+gone)
	}
	contact, quiet := l.contact(row, elsewhere)
	if o.Contact = contact; quiet >= l.older {
		say(OrphanNoContact, "no contact since "+l.now.Add(-quiet).UTC().Format(time.RFC3339))
	}
	o.Why = strings.Join(why, "; ")
	return o, nil
}

// leaseIn returns the lease of a sandbox, nil for none and for one that is not known any more.
func (l *orphanLook) leaseIn(ctx context.Context, r store.Reader, orgID, id string) (*core.Lease, error) {
	if id == "" {
		return nil, nil
	}
	if lease := l.Service.leases.get(id); lease != nil {
		return lease, nil
	}
	if lease, known := l.leases[id]; known {
		return lease, nil
	}
	lease, err := r.Lease(ctx, orgID, id)
	if fault.Is(err, fault.NotFound) {
		lease, err = nil, nil
	}
	if err == nil {
		l.leases[id] = lease
	}
	return lease, err
}

// contact returns when somebody was last in contact with a sandbox, as far as that was told, and for how long nobody was: negative while
// somebody is.
func (l *orphanLook) contact(row *core.Sandbox, elsewhere time.Time) (last time.Time, quiet time.Duration) {
	open := false
	l.live.look(row.ID, func(e *liveSandbox) {
		last, open = e.contact, l.live.open[row.ID] > 0
	})
	if open {
		return l.now, -1
	}
	if elsewhere.After(last) {
		last = elsewhere
	}
	return last, l.now.Sub(slices.MaxFunc([]time.Time{last, row.CreatedAt, l.born}, time.Time.Compare))
}

// contactElsewhere returns the contact that other servers told of, with those sandboxes where it matters: nobody was in contact through
// this server for long.
func (l *orphanLook) contactElsewhere(ctx context.Context, r store.Reader, rows []*core.Sandbox) (map[string]time.Time, error) {
	if !l.shares() {
		return nil, nil
	}
	var ids []string
	for _, row := range rows {
		if _, quiet := l.contact(row, time.Time{}); quiet >= l.older {
			ids = append(ids, row.ID)
		}
	}
	return r.BusyAt(ctx, ids...)
}
