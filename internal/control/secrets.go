package control

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store"
)

// Limits of secrets.
const (
	// MaxSecrets is how many a store has.
	MaxSecrets = 1000
	// MaxSecretFields is how many fields one has.
	MaxSecretFields = 64
	// MaxSecretValue is the largest value, MaxSecretBytes are all values of a secret together, in bytes.
	MaxSecretValue = 64 << 10
	MaxSecretBytes = 256 << 10
)

// Secret is a secret without its values, as callers see it.
type Secret struct {
	Store, Path          string
	Fields               []string
	Version              int64
	CreatedAt, UpdatedAt time.Time
	UpdatedBy            string
}

func secretView(storeName string, s *store.Secret) *Secret {
	return &Secret{Store: storeName, Path: s.Path, Fields: s.Fields, Version: s.Version, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, UpdatedBy: s.UpdatedBy}
}

// PutSecret writes a secret in place of what is at its path. Of two at once the later commit stays, whole.
func (s *Service) PutSecret(ctx context.Context, p core.Principal, storeName, path string, fields map[string][]byte) (*Secret, error) {
	if err := s.allow(ctx, p, "PutSecret", audit.Target{Kind: store.AuditSecret, Ref: storeName + "/" + path}); err != nil {
		return nil, err
	}
	if err := checkSecret(path, fields); err != nil {
		return nil, err
	}
	home, err := s.secretStore(ctx, p.OrgID, storeName)
	if err != nil {
		return nil, err
	}
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	key, err := ring.Unwrap(ctx, keyring.Wrapped{KeyID: home.KeyID, Text: home.WrappedKey})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fault.Internalf(nil, "write the fields of a secret as JSON") // the cause may have some of it
	}
	var made *store.Secret
	failpoint.Hit(fpSecretWrite)
	err = s.store.Update(ctx, func(tx store.Tx) error {
		now := s.now()
		version, err := tx.NextSecretVersion(ctx, p.OrgID, home.ID, now)
		if err != nil {
			return err
		}
		if err := s.roomForSecret(ctx, tx, home, path); err != nil {
			return err
		}
		made = &store.Secret{
			OrgID: p.OrgID, StoreID: home.ID, Path: path, Version: version, Fields: slices.Sorted(maps.Keys(fields)), CreatedAt: now, UpdatedAt: now, UpdatedBy: p.Actor,
		}
		if made.Sealed, err = keyring.Seal(key, placeOf(made), text); err != nil {
			return err
		}
		return tx.PutSecret(ctx, made, storeName)
	})
	if err != nil {
		return nil, err
	}
	return secretView(storeName, made), nil
}

// roomForSecret refuses one secret too many. The version that was taken keeps others from coming between.
func (s *Service) roomForSecret(ctx context.Context, tx store.Tx, home *store.SecretStore, path string) error {
	n, err := tx.CountSecrets(ctx, home.OrgID, home.ID)
	if err != nil || n < MaxSecrets {
		return err
	}
	if _, err = tx.Secret(ctx, home.OrgID, home.ID, path); fault.Is(err, fault.NotFound) {
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "secret store %s has %d secrets, the limit is %d", home.Name, n, MaxSecrets)
	}
	return err
}

func placeOf(s *store.Secret) keyring.Place {
	return keyring.Place{OrgID: s.OrgID, StoreID: s.StoreID, Path: s.Path, Version: s.Version}
}

// checkSecret says what is wrong with a secret, and nothing of its values.
func checkSecret(path string, fields map[string][]byte) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid secret")
	if why := launch.BadSecretPath(path); why != "" {
		e.WithField("path", "%.80q %s", path, why)
	}
	switch n := len(fields); {
	case n == 0:
		e.WithField("fields", "must be given: one value alone best has the name %q", launch.DefaultSecretField)
	case n > MaxSecretFields:
		e.WithField("fields", "%d fields, the limit is %d", n, MaxSecretFields)
		return e
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		total += len(fields[name])
		at := "fields[" + name + "]"
		if why := launch.BadSecretField(name); why != "" {
			// It may be that somebody took the value for the name.
			e.WithField("fields", "%s", why)
			continue
		}
		switch value := fields[name]; {
		case len(value) == 0:
			e.WithField(at, "is empty")
		case len(value) > MaxSecretValue:
			e.WithField(at, "%d bytes, the limit is %d", len(value), MaxSecretValue)
		case slices.Contains(value, 0):
			e.WithField(at, "has a zero byte, which no environment variable can hold")
		case !utf8.Valid(value):
			e.WithField(at, "is no UTF-8 text, which not every environment can hold: encode it, with base64 for example")
		}
	}
	if total > MaxSecretBytes {
		e.WithField("fields", "%d bytes together, the limit is %d", total, MaxSecretBytes)
	}
	return orNil(e)
}

// ListSecrets lists the secrets of a store by path, without values.
func (s *Service) ListSecrets(ctx context.Context, p core.Principal, storeName string, page Page) ([]*Secret, string, error) {
	if err := s.allow(ctx, p, "ListSecrets"); err != nil {
		return nil, "", err
	}
	c := scope{orgID: p.OrgID, kind: "secret", filter: storeName}
	sp, err := c.page(page, DefaultPage)
	if err != nil {
		return nil, "", err
	}
	var out []*Secret
	var next string
	err = s.store.View(ctx, func(r store.Reader) error {
		home, err := r.SecretStore(ctx, p.OrgID, storeName)
		if err != nil {
			return err
		}
		rows, after, err := r.Secrets(ctx, p.OrgID, home.ID, sp)
		next, out = after, nil
		for _, row := range rows {
			out = append(out, secretView(storeName, row))
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return out, c.token(next), nil
}

// DeleteSecret removes a secret. Sandboxes that run keep what they were given.
func (s *Service) DeleteSecret(ctx context.Context, p core.Principal, storeName, path string) error {
	if err := s.allow(ctx, p, "DeleteSecret", audit.Target{Kind: store.AuditSecret, Ref: storeName + "/" + path}); err != nil {
		return err
	}
	failpoint.Hit(fpSecretWrite)
	return s.store.Update(ctx, func(tx store.Tx) error {
		home, err := tx.SecretStore(ctx, p.OrgID, storeName)
		if err != nil {
			return err
		}
		row, err := tx.Secret(ctx, p.OrgID, home.ID, path)
		if err != nil {
			return err
		}
		row.UpdatedBy = p.Actor
		return tx.DeleteSecret(ctx, row, storeName)
	})
}
