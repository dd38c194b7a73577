package control

import (
	"context"
	"errors"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// DefaultAuditRetention is how long a row of the audit is kept unless told otherwise.
	DefaultAuditRetention = 400 * 24 * time.Hour
	// MinAuditRetention is the least: whoever looks once a day at what was refused finds all of it.
	MinAuditRetention = 24 * time.Hour
	// MaxAuditRows is how many rows a chain keeps, whatever their age.
	MaxAuditRows = 5_000_000
)

// AuditChain says which chain of the audit: that of an organization by name, "" for the caller's own, or that of the installation, which
// operators alone see.
type AuditChain struct {
	Org          string
	Installation bool
}

// AuditEntry is a row with the text that was hashed.
type AuditEntry struct {
	audit.Row
	Record, Hash string
}

// chainOf returns the name of a chain that the caller may see.
func (s *Service) chainOf(ctx context.Context, p core.Principal, c AuditChain) (string, error) {
	if c.Installation {
		if !p.Allows(core.RoleOperator) {
			return "", fault.New(fault.Denied, fault.ReasonRoleMissing, "the audit of the installation needs the role %s; %s has the role %s", core.RoleOperator, p.Actor, p.Role)
		}
		if c.Org != "" {
			return "", fault.Invalidf(fault.ReasonFieldInvalid, "which audit?").WithField("org", "cannot be given together with installation")
		}
		return audit.Installation, nil
	}
	var org *core.Org
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		org, err = reachOrg(ctx, r, p, c.Org)
		return err
	})
	if err != nil {
		return "", err
	}
	return org.ID, nil
}

// ListAudit lists rows of a chain, newest first. Where a filter lets little through, a page may be short and have a next one all the same.
func (s *Service) ListAudit(ctx context.Context, p core.Principal, c AuditChain, f store.AuditFilter, page Page) ([]AuditEntry, string, error) {
	if err := s.allow(ctx, p, "ListAudit"); err != nil {
		return nil, "", err
	}
	chain, err := s.sealedChain(ctx, p, c)
	if err != nil {
		return nil, "", err
	}
	sc := scope{orgID: chain, kind: "audit", filter: filterText(f.Since.String(), f.Until.String(), f.Actor, f.Method, f.ObjectID, f.Outcome)}
	sp, err := sc.page(page, DefaultPage)
	if err != nil {
		return nil, "", err
	}
	var (
		all  []AuditEntry
		next string
	)
	err = s.store.View(ctx, func(r store.Reader) error {
		rows, after, err := r.AuditRows(ctx, chain, f, sp)
		if err != nil {
			return err
		}
		all, next = make([]AuditEntry, len(rows)), after
		for i, row := range rows {
			decoded, err := audit.Decode(row.Record)
			if err != nil {
				// Verify says what is wrong; the rest is shown.
				decoded = &audit.Row{Seq: row.Seq, Outcome: audit.Failed, ErrorReason: fault.ReasonStoreCorrupt}
			}
			all[i] = AuditEntry{Row: *decoded, Record: row.Record, Hash: row.Hash}
		}
		return nil
	})
	return all, sc.token(next), err
}

// sealedChain returns the name of a chain, in which everything is that was committed so far and can be sealed.
func (s *Service) sealedChain(ctx context.Context, p core.Principal, c AuditChain) (string, error) {
	chain, err := s.chainOf(ctx, p, c)
	if err != nil {
		return "", err
	}
	if err := s.writeAudits(ctx); err != nil {
		return "", err
	}
	if err := s.store.SealAudit(ctx); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		// What has its place is shown all the same: whoever asks may be looking for the very thing that is in the way.
		s.log.WarnContext(ctx, "the audit was not sealed; rows that have no place yet are not shown", "error", err)
	}
	return chain, nil
}

// VerifyAudit checks a chain. head, when not nil, is one that somebody kept.
func (s *Service) VerifyAudit(ctx context.Context, p core.Principal, c AuditChain, head *audit.Head) (audit.Result, error) {
	if err := s.allow(ctx, p, "VerifyAudit"); err != nil {
		return audit.Result{}, err
	}
	chain, err := s.sealedChain(ctx, p, c)
	if err != nil {
		return audit.Result{}, err
	}
	for {
		var v *audit.Verifier
		err = s.eachAudit(ctx, chain, func(c audit.Chain) error { v = audit.NewVerifier(c, head); return nil }, func(row audit.Sealed) error {
			if !v.Add(row) {
				return errStopped
			}
			return nil
		})
		if errors.Is(err, errDropped) {
			continue // at most once an hour
		}
		if err != nil {
			return audit.Result{}, err
		}
		return v.Result(), nil
	}
}

// ExportAudit calls begin with where a chain begins and ends, and then emit for every row of it, oldest first.
func (s *Service) ExportAudit(ctx context.Context, p core.Principal, c AuditChain, begin func(audit.Chain) error, emit func(audit.Sealed) error) error {
	if err := s.allow(ctx, p, "ExportAudit"); err != nil {
		return err
	}
	chain, err := s.sealedChain(ctx, p, c)
	if err != nil {
		return err
	}
	err = s.eachAudit(ctx, chain, begin, emit)
	if errors.Is(err, errDropped) {
		return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "old rows of the audit were dropped while it was exported").WithHint("export it again")
	}
	return err
}

// errStopped ends eachAudit early, errDropped when rows that it had not come to were dropped meanwhile.
var errStopped, errDropped = errors.New("stopped"), errors.New("dropped")

// eachAudit goes over a chain as it was at one moment. It reads a page at a time: a slow reader of an export holds up no transaction.
func (s *Service) eachAudit(ctx context.Context, chain string, begin func(audit.Chain) error, emit func(audit.Sealed) error) error {
	var c audit.Chain
	if err := s.store.View(ctx, func(r store.Reader) (err error) {
		c, err = r.AuditChain(ctx, chain)
		return err
	}); err != nil {
		return err
	}
	if err := begin(c); err != nil {
		return err
	}
	for seq := c.Anchor.Seq; ; {
		var page []audit.Sealed
		if err := s.store.View(ctx, func(r store.Reader) (err error) {
			now, err := r.AuditChain(ctx, chain)
			if err != nil {
				return err
			}
			if now.Anchor.Seq > seq {
				return errDropped
			}
			page, err = r.AuditAfter(ctx, chain, seq, store.MaxPage)
			return err
		}); err != nil {
			return err
		}
		for _, row := range page {
			// What came since is not of that moment. Rows beyond the head are shown where nothing came: somebody put them there.
			if seq = row.Seq; seq > c.Head.Seq {
				grown, err := s.grown(ctx, c)
				if err != nil || grown {
					return err
				}
			}
			if err := emit(row); errors.Is(err, errStopped) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// grown reports whether the head of a chain has moved.
func (s *Service) grown(ctx context.Context, was audit.Chain) (grown bool, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		c, err := r.AuditChain(ctx, was.Name)
		grown = c.Head != was.Head
		return err
	})
	return grown, err
}

// pruneAudit drops rows of all chains that were kept for long enough.
func (s *Service) pruneAudit(ctx context.Context) error {
	var chains []audit.Chain
	if err := s.store.View(ctx, func(r store.Reader) (err error) {
		chains, err = r.AuditChains(ctx)
		return err
	}); err != nil {
		return err
	}
	before := s.now().Add(-s.auditFor)
	var failed error
	for _, c := range chains {
		all, err := s.store.PruneAudit(ctx, c.Name, before, MaxAuditRows)
		failed = errors.Join(failed, err) // one that cannot be written holds up no other
		if all > 0 {
			s.log.InfoContext(ctx, "old rows of the audit were dropped", "org", c.Name, "rows", all, "kept", s.auditFor)
		}
	}
	return failed
}
