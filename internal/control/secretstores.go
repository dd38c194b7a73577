package control

import (
	"context"
	"regexp"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store"
)

// Limits of secret stores.
const (
	// MaxSecretStores is how many an organization has.
	MaxSecretStores = 100
	// DefaultStorePage and MaxStorePage are the sizes of pages of stores, as published clients expect.
	DefaultStorePage = 50
	MaxStorePage     = 100
)

// ProviderBerm is the provider of stores whose secrets the server keeps itself.
const ProviderBerm = "berm"

// storeName is what a store may be called, as the published interface says.
var storeName = regexp.MustCompile(`^[a-z][a-z0-9-]{2,62}$`)

// SecretStore is a store of secrets, as callers see it.
type SecretStore struct {
	ID, OrgID, Name, Provider string
	CreatedAt, UpdatedAt      time.Time
}

func secretStoreView(s *store.SecretStore) *SecretStore {
	return &SecretStore{ID: s.ID, OrgID: s.OrgID, Name: s.Name, Provider: s.Provider, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt}
}

// CheckStoreName returns nil for what a store may be called.
func CheckStoreName(path, name string) error {
	if storeName.MatchString(name) {
		return nil
	}
	return fault.Invalidf(fault.ReasonFieldInvalid, "invalid secret store").
		WithField(path, "%.80q is not a lower-case letter and 2 to 62 of a-z, 0-9 and -", name)
}

// CreateSecretStore makes a store whose secrets the server keeps itself, with a key of its own.
func (s *Service) CreateSecretStore(ctx context.Context, p core.Principal, name string) (*SecretStore, error) {
	if err := s.allow(ctx, p, "CreateSecretStore", audit.Target{Kind: store.AuditSecretStore, Ref: name}); err != nil {
		return nil, err
	}
	if err := CheckStoreName("name", name); err != nil {
		return nil, err
	}
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	key, err := ring.Wrap(ctx, keyring.NewKey())
	if err != nil {
		return nil, err
	}
	now := s.now()
	made := &store.SecretStore{
		ID: s.newID(), OrgID: p.OrgID, Name: name, Provider: ProviderBerm, KeyID: key.KeyID, WrappedKey: key.Text,
		CreatedAt: now, UpdatedAt: now, CreatedBy: p.Actor,
	}
	failpoint.Hit(fpSecretWrite)
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.InsertSecretStore(ctx, made, MaxSecretStores) }); err != nil {
		return nil, err
	}
	return secretStoreView(made), nil
}

// GetSecretStore returns a store.
func (s *Service) GetSecretStore(ctx context.Context, p core.Principal, name string) (*SecretStore, error) {
	if err := s.allow(ctx, p, "GetSecretStore"); err != nil {
		return nil, err
	}
	row, err := s.secretStore(ctx, p.OrgID, name)
	if err != nil {
		return nil, err
	}
	return secretStoreView(row), nil
}

func (s *Service) secretStore(ctx context.Context, orgID, name string) (row *store.SecretStore, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		row, err = r.SecretStore(ctx, orgID, name)
		return err
	})
	return row, err
}

// ListSecretStores lists the stores of the caller's organization by name.
func (s *Service) ListSecretStores(ctx context.Context, p core.Principal, page Page) ([]*SecretStore, string, error) {
	if err := s.allow(ctx, p, "ListSecretStores"); err != nil {
		return nil, "", err
	}
	page.Size = min(page.Size, MaxStorePage)
	c := scope{orgID: p.OrgID, kind: "secret_store"}
	sp, err := c.page(page, DefaultStorePage)
	if err != nil {
		return nil, "", err
	}
	var out []*SecretStore
	var next string
	err = s.store.View(ctx, func(r store.Reader) error {
		rows, after, err := r.SecretStores(ctx, p.OrgID, sp)
		next, out = after, nil
		for _, row := range rows {
			out = append(out, secretStoreView(row))
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return out, c.token(next), nil
}

// DeleteSecretStore removes a store, its key and its secrets. It needs no key of the server's: a store whose key is lost can be removed.
func (s *Service) DeleteSecretStore(ctx context.Context, p core.Principal, name string) error {
	if err := s.allow(ctx, p, "DeleteSecretStore", audit.Target{Kind: store.AuditSecretStore, Ref: name}); err != nil {
		return err
	}
	failpoint.Hit(fpSecretWrite)
	return s.store.Update(ctx, func(tx store.Tx) error { return tx.DeleteSecretStore(ctx, p.OrgID, name) })
}

// Rewrapped says what RewrapSecretStores did.
type Rewrapped struct {
	KeyID             string
	Stores, Rewrapped int64
}

// RewrapSecretStores puts the keys of the stores of all organizations under the key that is used now. Each is a transaction of its own: what
// is done stays when it is cut short, and the next call goes on.
func (s *Service) RewrapSecretStores(ctx context.Context, p core.Principal) (*Rewrapped, error) {
	if err := s.allow(ctx, p, "RewrapSecretStores", audit.Target{Kind: store.AuditSecretStore}); err != nil {
		return nil, err
	}
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	out := &Rewrapped{}
	if out.KeyID, err = ring.Current(ctx); err != nil {
		return nil, err
	}
	keys, err := s.secretKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		out.Stores += k.Stores
		if k.ID == out.KeyID {
			continue
		}
		n, err := s.rewrap(ctx, ring, k.ID)
		out.Rewrapped += n
		if err != nil {
			return nil, err
		}
	}
	if out.Rewrapped == 0 {
		s.did(audit.Of(ctx)) // No transaction tells of it.
	}
	return out, nil
}

// rewrap puts the stores that are under a key under the current one.
func (s *Service) rewrap(ctx context.Context, ring keyring.Ring, keyID string) (n int64, err error) {
	var rows []*store.SecretStore
	if err := s.store.View(ctx, func(r store.Reader) error {
		rows, err = r.SecretStoresUnder(ctx, keyID)
		return err
	}); err != nil {
		return 0, err
	}
	for _, row := range rows {
		key, err := ring.Unwrap(ctx, keyring.Wrapped{KeyID: row.KeyID, Text: row.WrappedKey})
		if err != nil {
			return n, err
		}
		w, err := ring.Wrap(ctx, key)
		if err != nil {
			return n, err
		}
		failpoint.Hit(fpSecretWrite)
		changed := false
		if err := s.store.Update(ctx, func(tx store.Tx) error {
			changed, err = tx.RewrapSecretStore(ctx, row, w.KeyID, w.Text)
			return err
		}); err != nil {
			return n, err
		}
		if changed {
			n++
		}
	}
	return n, nil
}

func (s *Service) secretKeys(ctx context.Context) (keys []store.SecretKey, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		keys, err = r.SecretKeys(ctx)
		return err
	})
	return keys, err
}

// keyring returns the keys of this server.
func (s *Service) keyring() (keyring.Ring, error) {
	if s.keys == nil {
		return nil, fault.Preconditionf(keyring.ReasonKeyMissing, "this server has no key to keep secrets with").
			WithHint("start every server with the same --secrets-key FILE, or --secrets-kms SOCKET")
	}
	return s.keys, nil
}
