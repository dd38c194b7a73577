package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

func credentialInvalid(why string) error {
	return fault.New(fault.Unauthenticated, fault.ReasonRunnerCredential, "the runner's credential is not valid: %s", why).
		WithHint("make a new enrolment token with berm runner join NAME, and start the runner with it: berm runner --gateway URL --token TOKEN")
}

// AuthenticateRunner returns whose credential a secret is. On another cluster or machine than it was given to it is refused.
func (s *Service) AuthenticateRunner(ctx context.Context, secret, identity string) (*RunnerCredential, error) {
	if err := checkIdentity(identity); err != nil {
		return nil, err
	}
	hash := hashSecret(secret[:min(len(secret), maxSecretLen)])
	if !secretWellFormed(secret) {
		return nil, credentialInvalid("it is unknown, expired or revoked")
	}
	var token *core.Token
	var r *core.Runner
	err := s.store.View(ctx, func(v store.Reader) (err error) {
		if token, err = v.TokenByHash(ctx, hash); err != nil {
			return err
		}
		if token.Role != core.RoleRunner || !tokenValid(token, s.now()) {
			return credentialInvalid("it is unknown, expired or revoked")
		}
		r, err = s.runnerOfToken(ctx, v, token)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil, credentialInvalid("it is unknown, expired or revoked")
	}
	if err != nil {
		return nil, err
	}
	if token.Identity != identity {
		return nil, fault.New(fault.Denied, fault.ReasonRunnerIdentity, "the credential of runner %s was given to another machine or cluster", r.RunnerID).
			WithHint("a credential is not copied: enrol this one as a runner of its own, or move the runner with berm runner join %s", r.RunnerID)
	}
	return &RunnerCredential{
		OrgID: token.OrgID, RunnerUUID: r.ID, RunnerID: r.RunnerID, TokenID: token.ID, Secret: secret, Identity: identity,
		CreatedAt: token.CreatedAt, ExpiresAt: token.ExpiresAt,
	}, nil
}

// RenewRunner makes the credential that follows one. Both are valid until the older ones are retired.
func (s *Service) RenewRunner(ctx context.Context, old *RunnerCredential) (*RunnerCredential, error) {
	secret, err := s.newSecret()
	if err != nil {
		return nil, err
	}
	var out *RunnerCredential
	failpoint.Hit(fpRunnerRenew)
	err = s.store.Update(ctx, func(tx store.Tx) error {
		token, err := tx.TokenByHash(ctx, hashSecret(old.Secret))
		if fault.Is(err, fault.NotFound) || err == nil && !tokenValid(token, s.now()) {
			return credentialInvalid("it is expired or revoked")
		}
		if err != nil {
			return err
		}
		r, err := s.runnerOfToken(ctx, tx, token)
		if err != nil {
			return err
		}
		out, err = s.issue(ctx, tx, r, secret, token.Identity)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// RetireRunnerCredentials ends the credentials that are older than one which its runner has shown to have.
func (s *Service) RetireRunnerCredentials(ctx context.Context, used *RunnerCredential) error {
	failpoint.Hit(fpRunnerRetire)
	err := s.store.Update(ctx, func(tx store.Tx) error {
		return s.retire(ctx, tx, &core.Runner{Meta: core.Meta{ID: used.RunnerUUID, OrgID: used.OrgID}}, used.CreatedAt)
	})
	s.tokens.clear()
	return err
}
