package control

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash/crc32"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Form of a secret: berm_ and the base64url text of 32 random bytes and their CRC-32. The sum lets a scanner of leaked
// secrets, and Authenticate, tell a token from something that merely looks like one, without a look at the store.
const (
	tokenPrefix  = "berm_"
	tokenRandom  = 32
	tokenSum     = 4
	maxSecretLen = 256
	// MaxTokenTTL is the longest lifetime of a token that has one.
	MaxTokenTTL = 10 * 365 * 24 * time.Hour
)

// leaseMark stands between a secret and a lease. It is in no secret, and may be in an Authorization header (RFC 6750).
const leaseMark = "~"

const reasonTokenNotFound = "TOKEN_NOT_FOUND"

// TokenInput is what a caller says about a token.
type TokenInput struct {
	// Org is the name of the organization, "" for the caller's own.
	Org, Name string
	Role      core.Role
	// TTL is how long it is valid; 0 is for ever.
	TTL time.Duration
}

// CreateToken makes a token. The secret is returned this once; the store has its hash. Nobody makes a token with a role
// that they do not have.
func (s *Service) CreateToken(ctx context.Context, p core.Principal, in TokenInput) (*core.Token, string, error) {
	if err := s.allow(ctx, p, "CreateToken", audit.Target{Kind: store.ChangeToken, Ref: in.Name}); err != nil {
		return nil, "", err
	}
	if err := checkToken(p, in); err != nil {
		return nil, "", err
	}
	secret, err := s.newSecret()
	if err != nil {
		return nil, "", err
	}
	now := s.now()
	token := &core.Token{ID: s.newID(), Name: in.Name, Role: in.Role, Hash: hashSecret(secret), CreatedAt: now, CreatedBy: p.Actor}
	if in.TTL > 0 {
		token.ExpiresAt = now.Add(in.TTL)
	}
	failpoint.Hit(fpTokenInsert)
	err = s.store.Update(ctx, func(tx store.Tx) error {
		org, err := reachOrg(ctx, tx, p, in.Org)
		if err != nil {
			return err
		}
		token.OrgID = org.ID
		return tx.InsertToken(ctx, token)
	})
	if err != nil {
		return nil, "", err
	}
	return token, secret, nil
}

func checkToken(p core.Principal, in TokenInput) error {
	if err := spec.CheckName("name", in.Name); err != nil {
		return err
	}
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid token")
	switch in.Role {
	case core.RoleUser, core.RoleAdmin, core.RoleOperator:
		if !p.Allows(in.Role) {
			return fault.New(fault.Denied, fault.ReasonRoleMissing, "a token with the role %s cannot be made with the role %s", in.Role, p.Role)
		}
	default:
		e.WithField("role", "%.40q is none of user, admin, operator", in.Role)
	}
	if in.TTL < 0 || in.TTL > MaxTokenTTL {
		e.WithField("expires_in_seconds", "must be between 0, for ever, and %d", int64(MaxTokenTTL/time.Second))
	}
	return orNil(e)
}

// ListTokens lists the valid tokens of an organization by name.
func (s *Service) ListTokens(ctx context.Context, p core.Principal, org string, page Page) ([]*core.Token, string, error) {
	if err := s.allow(ctx, p, "ListTokens"); err != nil {
		return nil, "", err
	}
	var tokens []*core.Token
	now := s.now()
	c := scope{kind: "token"}
	err := s.store.View(ctx, func(r store.Reader) error {
		o, err := reachOrg(ctx, r, p, org)
		if err != nil {
			return err
		}
		c.orgID = o.ID
		tokens, err = r.Tokens(ctx, o.ID)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	tokens = slices.DeleteFunc(tokens, func(t *core.Token) bool { return !tokenValid(t, now) })
	key := func(t *core.Token) string { return t.Name + "\x00" + t.ID }
	slices.SortFunc(tokens, func(a, b *core.Token) int { return strings.Compare(key(a), key(b)) })
	return paged(c, page, tokens, key)
}

// RevokeToken makes a token invalid at once.
func (s *Service) RevokeToken(ctx context.Context, p core.Principal, org, id string) error {
	if err := s.allow(ctx, p, "RevokeToken", audit.Target{Kind: store.ChangeToken, Ref: id}); err != nil {
		return err
	}
	failpoint.Hit(fpTokenRevoke)
	err := s.store.Update(ctx, func(tx store.Tx) error {
		o, err := reachOrg(ctx, tx, p, org)
		if err != nil {
			return err
		}
		return tx.RevokeToken(ctx, o.ID, id, s.now())
	})
	if fault.Is(err, fault.NotFound) && !fault.HasReason(err, reasonOrgNotFound) {
		return fault.NotFoundf(reasonTokenNotFound, "token %.80q does not exist", id)
	}
	s.tokens.forget(id)
	return err
}

// Authenticate returns whom a secret stands for. Whatever is wrong with it, the answer is the same: Unauthenticated,
// TOKEN_INVALID. A store that cannot be read is Unavailable, so that nobody throws a good token away.
//
// Behind the secret, after a ~, may stand the lease that the caller's launches live under. It is no secret, and grants nothing.
func (s *Service) Authenticate(ctx context.Context, secret string) (core.Principal, error) {
	secret, lease, _ := strings.Cut(secret, leaseMark)
	// The hash is made before anything is looked at, so that timing says nothing about where a guess went wrong.
	hash := hashSecret(secret[:min(len(secret), maxSecretLen)])
	if !secretWellFormed(secret) {
		return core.Principal{}, tokenInvalid()
	}
	now := s.now()
	token, cached := s.tokens.get(hash, now)
	if !cached {
		epoch := s.tokens.epoch()
		err := s.store.View(ctx, func(r store.Reader) error {
			var err error
			token, err = r.TokenByHash(ctx, hash)
			return err
		})
		if fault.Is(err, fault.NotFound) {
			return core.Principal{}, tokenInvalid()
		}
		if err != nil {
			s.unheard(ctx, now)
			return core.Principal{}, err
		}
		s.tokens.put(hash, token, now, epoch)
	}
	if !tokenValid(token, now) {
		return core.Principal{}, tokenInvalid()
	}
	p := principalOf(token)
	p.LeaseID = lease
	return p, nil
}

func principalOf(t *core.Token) core.Principal {
	return core.Principal{OrgID: t.OrgID, TokenID: t.ID, Actor: "token:" + t.Name, Role: t.Role}
}

func tokenValid(t *core.Token, now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

func tokenInvalid() error {
	return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "the token is not valid").
		WithHint("it may be mistyped, expired or revoked; berm token create makes a new one")
}

func (s *Service) newSecret() (string, error) {
	raw := make([]byte, tokenRandom, tokenRandom+tokenSum)
	if _, err := io.ReadFull(s.random, raw); err != nil {
		return "", fault.Internalf(err, "read random bytes")
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(appendSum(raw)), nil
}

func appendSum(raw []byte) []byte {
	sum := crc32.ChecksumIEEE(raw)
	return append(raw, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

// IsToken reports whether a text has the form of a token, also with a lease behind it: what never goes where a sandbox could read it.
func IsToken(text string) bool {
	secret, _, _ := strings.Cut(text, leaseMark)
	return secretWellFormed(secret)
}

func secretWellFormed(secret string) bool {
	text, ok := strings.CutPrefix(secret, tokenPrefix)
	if !ok || len(secret) > maxSecretLen {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != tokenRandom+tokenSum {
		return false
	}
	return slices.Equal(appendSum(slices.Clone(raw[:tokenRandom])), raw)
}

// tokenLike finds what may be a token in a text.
var tokenLike = regexp.MustCompile(tokenPrefix + `[A-Za-z0-9_-]{48}`)

// withoutTokens returns a text without the tokens in it. What a caller takes for a name may be one, and rows of the audit stay.
func withoutTokens(text string) string {
	return tokenLike.ReplaceAllStringFunc(text, func(s string) string {
		if secretWellFormed(s) {
			return "(a token)"
		}
		return s
	})
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
