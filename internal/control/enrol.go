package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// A runner proves who it is in two steps. An administrator makes an enrolment token, which is valid for minutes and once. The
// runner's process exchanges it for a credential, which it keeps, and which is replaced while the line is up; the old one ends when
// the new one is used. So a copy of either is of no use soon, and who is replaced by a thief notices at once.
const (
	// DefaultEnrolTTL is how long an enrolment token is valid, MaxEnrolTTL how long at most.
	DefaultEnrolTTL = time.Hour
	MaxEnrolTTL     = 24 * time.Hour
	// DefaultCredentialTTL is how long a credential is valid. A third of that is how old it gets on a line that is up.
	DefaultCredentialTTL = 72 * time.Hour
	// MinCredentialTTL leaves time for a renewal to be tried again.
	MinCredentialTTL = time.Second
	// MaxIdentity is the longest identity of a cluster or machine, in bytes.
	MaxIdentity = 200
	// ClusterIdentity begins the identity of a cluster; the rest is the UID of its namespace kube-system.
	ClusterIdentity = "cluster:"
)

// Enrolment is a token that lets one process become a runner.
type Enrolment struct {
	RunnerID, RunnerUUID, Secret string
	ExpiresAt                    time.Time
}

// RunnerCredential is what a runner's process proves itself with.
type RunnerCredential struct {
	OrgID, RunnerUUID, RunnerID string
	TokenID, Secret, Identity   string
	CreatedAt, ExpiresAt        time.Time
}

// RenewAt is when it is to be replaced.
func (c *RunnerCredential) RenewAt() time.Time {
	return c.CreatedAt.Add(c.ExpiresAt.Sub(c.CreatedAt) / 3)
}

// JoinRunner makes an enrolment token for a runner. ttl 0 is DefaultEnrolTTL.
func (s *Service) JoinRunner(ctx context.Context, p core.Principal, ref string, ttl time.Duration) (*Enrolment, error) {
	if err := s.allow(ctx, p, "JoinRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = DefaultEnrolTTL
	}
	if ttl < time.Second || ttl > MaxEnrolTTL {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid enrolment").WithField("expires_in_seconds", "must be between 1 and %d", int64(MaxEnrolTTL/time.Second))
	}
	secret, err := s.newSecret()
	if err != nil {
		return nil, err
	}
	now := s.now()
	out := &Enrolment{Secret: secret, ExpiresAt: now.Add(ttl)}
	failpoint.Hit(fpRunnerJoin)
	err = s.store.Update(ctx, func(tx store.Tx) error {
		r, err := readRunner(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		if err := joinable(r); err != nil {
			return err
		}
		out.RunnerID, out.RunnerUUID = r.RunnerID, r.ID
		return tx.InsertToken(ctx, &core.Token{
			ID: s.newID(), OrgID: p.OrgID, Name: "enrol " + r.RunnerID, Role: core.RoleEnrol, Hash: hashSecret(secret), CreatedAt: now, CreatedBy: p.Actor,
			ExpiresAt: out.ExpiresAt, RunnerUUID: r.ID,
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// joinable refuses runners that no process of their own can be.
func joinable(r *core.Runner) error {
	if r.DeletingSince != nil {
		return fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s is being deleted", r.RunnerID)
	}
	if embedded(r) {
		return fault.Preconditionf(fault.ReasonRunnerEmbedded, "runner %s is part of a server", r.RunnerID).
			WithHint("make another for the other machine: berm runner create NAME --zone ZONE --cluster NAME --profile NAME")
	}
	return nil
}

// EnrolRunner exchanges an enrolment token for a credential, once. identity says which cluster or machine asks.
func (s *Service) EnrolRunner(ctx context.Context, secret, identity string) (*RunnerCredential, error) {
	if err := checkIdentity(identity); err != nil {
		return nil, err
	}
	hash := hashSecret(secret[:min(len(secret), maxSecretLen)])
	if !secretWellFormed(secret) {
		return nil, enrolInvalid()
	}
	fresh, err := s.newSecret()
	if err != nil {
		return nil, err
	}
	var out *RunnerCredential
	failpoint.Hit(fpRunnerEnrol)
	err = s.store.Update(ctx, func(tx store.Tx) error {
		token, err := tx.TokenByHash(ctx, hash)
		if fault.Is(err, fault.NotFound) || err == nil && (token.Role != core.RoleEnrol || !tokenValid(token, s.now())) {
			return enrolInvalid()
		}
		if err != nil {
			return err
		}
		r, err := s.runnerOfToken(ctx, tx, token)
		if err != nil {
			return err
		}
		if err := placeFree(ctx, tx, r, identity); err != nil {
			return err
		}
		if err := s.spend(ctx, tx, token); err != nil {
			return err
		}
		if err := s.retire(ctx, tx, r, time.Time{}); err != nil {
			return err
		}
		out, err = s.issue(ctx, tx, r, fresh, identity)
		return err
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpRunnerEnrolled)
	s.tokens.clear()
	return out, nil
}

func checkIdentity(identity string) error {
	if identity == "" || len(identity) > MaxIdentity {
		return fault.Invalidf(fault.ReasonFieldInvalid, "a runner says which cluster or machine it is").WithField("identity", "has %d bytes, and must have 1 to %d", len(identity), MaxIdentity)
	}
	return nil
}

func enrolInvalid() error {
	return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "the enrolment token is not valid").
		WithHint("it may be mistyped, expired or used: it is good for one use; berm runner join NAME makes a new one")
}

// spend revokes an enrolment token, and is refused when another transaction did.
func (s *Service) spend(ctx context.Context, tx store.Tx, token *core.Token) error {
	at := s.now()
	if err := tx.RevokeToken(ctx, token.OrgID, token.ID, at); err != nil {
		return err
	}
	after, err := tx.TokenByHash(ctx, token.Hash)
	if err != nil {
		return err
	}
	if !after.RevokedAt.Equal(at) {
		return enrolInvalid()
	}
	return nil
}

// runnerOfToken returns the runner that a token is for.
func (s *Service) runnerOfToken(ctx context.Context, r store.Reader, token *core.Token) (*core.Runner, error) {
	o, err := r.Object(ctx, store.KindRunner, token.OrgID, token.RunnerUUID)
	if fault.Is(err, fault.NotFound) {
		return nil, credentialInvalid("its runner was deleted")
	}
	if err != nil {
		return nil, err
	}
	return runnerFrom(o)
}

// placeFree holds that a cluster or machine is at most one runner, and a runner on one: what lives on the old one would be called
// lost while it goes on.
func placeFree(ctx context.Context, tx store.Tx, r *core.Runner, identity string) error {
	if uid, ok := strings.CutPrefix(identity, ClusterIdentity); ok && r.ClusterID != "" && r.ClusterID != uid {
		return fault.New(fault.Denied, fault.ReasonRunnerIdentity, "runner %s is of cluster %s, and this is cluster %.80s", r.RunnerID, r.ClusterID, uid).
			WithHint("cluster_id of a runner is the UID of the namespace kube-system; leave it out when the runner is created to take any cluster")
	}
	all, err := tx.Tokens(ctx, r.OrgID)
	if err != nil {
		return err
	}
	var last *core.Token
	for _, t := range all {
		if t.Role != core.RoleRunner {
			continue
		}
		if t.RunnerUUID == r.ID {
			if last == nil || t.CreatedAt.After(last.CreatedAt) {
				last = t
			}
			continue
		}
		if t.Identity != identity {
			continue
		}
		o, err := tx.Object(ctx, store.KindRunner, r.OrgID, t.RunnerUUID)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		return fault.New(fault.Exists, fault.ReasonRunnerExists, "this machine or cluster is runner %s already; it can be one runner only", o.Name).
			WithHint("delete that runner first, or on one machine use a --data directory of its own for each")
	}
	if last == nil || last.Identity == identity {
		return nil
	}
	live, err := tx.CountLive(ctx, r.ID)
	if err != nil || live == 0 {
		return err
	}
	return fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s is another machine or cluster, with %s that must end first", r.RunnerID, counted(int(live), "sandbox")).
		WithHint("start the runner there, or stop what runs on it, before another takes its place")
}

// issue writes a new credential.
func (s *Service) issue(ctx context.Context, tx store.Tx, r *core.Runner, secret, identity string) (*RunnerCredential, error) {
	now := s.now()
	c := &RunnerCredential{
		OrgID: r.OrgID, RunnerUUID: r.ID, RunnerID: r.RunnerID, TokenID: s.newID(), Secret: secret, Identity: identity, CreatedAt: now, ExpiresAt: now.Add(s.credential),
	}
	return c, tx.InsertToken(ctx, &core.Token{
		ID: c.TokenID, OrgID: r.OrgID, Name: "runner " + r.RunnerID, Role: core.RoleRunner, Hash: hashSecret(secret), CreatedAt: now, CreatedBy: "runner:" + r.RunnerID,
		ExpiresAt: c.ExpiresAt, RunnerUUID: r.ID, Identity: identity,
	})
}

// retire revokes the credentials of a runner made before a time, all for the zero time.
func (s *Service) retire(ctx context.Context, tx store.Tx, r *core.Runner, before time.Time) error {
	all, err := tx.Tokens(ctx, r.OrgID)
	if err != nil {
		return err
	}
	now := s.now()
	for _, t := range slices.DeleteFunc(all, func(t *core.Token) bool {
		return t.RunnerUUID != r.ID || t.Role != core.RoleRunner || !tokenValid(t, now)
	}) {
		if before.IsZero() || t.CreatedAt.Before(before) {
			if err := tx.RevokeToken(ctx, r.OrgID, t.ID, now); err != nil {
				return err
			}
		}
	}
	return nil
}
