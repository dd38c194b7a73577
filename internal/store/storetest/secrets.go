package storetest

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func secrets(t *testing.T, e *env) {
	t.Run("stores are read back as written", e.secretStoreRoundTrip)
	t.Run("another organization is like none", e.secretIsolation)
	t.Run("a write replaces, with a version of its own", e.secretWrites)
	t.Run("writes at once get different versions", e.secretRace)
	t.Run("pages", e.secretPages)
	t.Run("a store goes with its secrets", e.secretStoreDeletion)
	t.Run("keys are exchanged once", e.secretRewrap)
	t.Run("what cannot be stored", e.secretRefused)
	t.Run("rows of the audit", e.secretAudit)
}

const manySecretStores = 1000

func (e *env) secretStore(t testing.TB, org string) *store.SecretStore {
	t.Helper()
	id := e.id("store")
	s := &store.SecretStore{
		ID: id, OrgID: org, Name: "n-" + id, Provider: "berm", KeyID: "key " + org, WrappedKey: "wrapped " + id,
		CreatedAt: start, UpdatedAt: start, CreatedBy: "token:ci",
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSecretStore(ctx, s, manySecretStores) })
	return s
}

func (e *env) secret(t testing.TB, home *store.SecretStore, path, sealed string, at time.Time) *store.Secret {
	t.Helper()
	var s *store.Secret
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		version, err := tx.NextSecretVersion(ctx, home.OrgID, home.ID, at)
		if err != nil {
			return err
		}
		s = &store.Secret{
			OrgID: home.OrgID, StoreID: home.ID, Path: path, Version: version, Fields: []string{"a", "b"}, Sealed: []byte(sealed),
			CreatedAt: at, UpdatedAt: at, UpdatedBy: "token:ci",
		}
		return tx.PutSecret(ctx, s, home.Name)
	})
	home.UpdatedAt = at
	return s
}

func (e *env) secretStoreRoundTrip(t *testing.T) {
	org := e.id("org")
	s := e.secretStore(t, org)
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.SecretStore(ctx, org, s.Name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the store", got, s)
	})
	again := *s
	again.ID = e.id("store")
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		return tx.InsertSecretStore(ctx, &again, manySecretStores)
	}), fault.Exists)
	again.Name = "another"
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSecretStore(ctx, &again, 1) }), fault.Exhausted)
	again.OrgID = e.id("org") // whose first it is
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertSecretStore(ctx, &again, 1) })
}

func (e *env) secretIsolation(t *testing.T) {
	s, other := e.secretStore(t, e.id("org")), e.id("org")
	made := e.secret(t, s, "p", "x", start)
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.SecretStore(ctx, other, s.Name)
		wantCode(t, err, fault.NotFound)
		_, err = r.Secret(ctx, other, s.ID, "p")
		wantCode(t, err, fault.NotFound)
		list, _, err := r.Secrets(ctx, other, s.ID, store.Page{Size: 10})
		if err != nil || len(list) != 0 {
			t.Fatalf("%d secrets of another organization, %v", len(list), err)
		}
	})
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecretStore(ctx, other, s.Name) }), fault.NotFound)
	made.OrgID = other
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecret(ctx, made, s.Name) }), fault.NotFound)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.NextSecretVersion(ctx, other, s.ID, start)
		return err
	}), fault.NotFound)
}

func (e *env) secretWrites(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	e.secret(t, s, "p", "one", start)
	second := e.secret(t, s, "p", "two\x00\xff", start.Add(time.Hour))
	if second.Version != 2 || !second.CreatedAt.Equal(start) {
		t.Fatalf("version %d, created %s", second.Version, second.CreatedAt)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Secret(ctx, s.OrgID, s.ID, "p")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the secret", got, second)
		home, err := r.SecretStore(ctx, s.OrgID, s.Name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "its store", home, s)
		n, err := r.CountSecrets(ctx, s.OrgID, s.ID)
		if err != nil || n != 1 {
			t.Fatalf("%d secrets, %v", n, err)
		}
	})
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecret(ctx, second, s.Name) })
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecret(ctx, second, s.Name) }), fault.NotFound)
	if third := e.secret(t, s, "p", "three", start); third.Version != 3 {
		t.Fatalf("version %d again after a deletion", third.Version)
	}
}

func (e *env) secretRace(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	const writers = 8
	versions := make([]int64, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			versions[i] = e.secret(t, &store.SecretStore{OrgID: s.OrgID, ID: s.ID, Name: s.Name}, "p", "v", start).Version
		})
	}
	group.Wait()
	seen := map[int64]bool{}
	for _, v := range versions {
		if seen[v] || v < 1 || v > writers {
			t.Fatalf("versions %v", versions)
		}
		seen[v] = true
	}
}

func (e *env) secretPages(t *testing.T) {
	org := e.id("org")
	s := e.secretStore(t, org)
	for i := range 5 {
		e.secret(t, s, "p/"+strconv.Itoa(i), "x", start)
		e.secretStore(t, org)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		var paths, names []string
		for after := ""; ; {
			page, next, err := r.Secrets(ctx, org, s.ID, store.Page{Size: 2, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range page {
				if len(one.Sealed) != 0 {
					t.Fatal("a list has what is sealed")
				}
				paths = append(paths, one.Path)
			}
			if after = next; after == "" {
				break
			}
		}
		for after := ""; ; {
			page, next, err := r.SecretStores(ctx, org, store.Page{Size: 4, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range page {
				names = append(names, one.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		if got := strings.Join(paths, " "); got != "p/0 p/1 p/2 p/3 p/4" || len(names) != 6 {
			t.Fatalf("paths %s, %d stores", got, len(names))
		}
	})
}

func (e *env) secretStoreDeletion(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	e.secret(t, s, "p", "x", start)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecretStore(ctx, s.OrgID, s.Name) })
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.SecretStore(ctx, s.OrgID, s.Name)
		wantCode(t, err, fault.NotFound)
		_, err = r.Secret(ctx, s.OrgID, s.ID, "p")
		wantCode(t, err, fault.NotFound)
	})
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.NextSecretVersion(ctx, s.OrgID, s.ID, start)
		return err
	}), fault.NotFound)
}

func (e *env) secretRewrap(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	under := func(key string) int64 {
		var n int64
		e.view(t, func(ctx context.Context, r store.Reader) {
			keys, err := r.SecretKeys(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				if k.ID == key {
					n = k.Stores
				}
			}
			rows, err := r.SecretStoresUnder(ctx, key)
			if err != nil || int64(len(rows)) != n {
				t.Fatalf("%d stores under %s, counted %d, %v", len(rows), key, n, err)
			}
		})
		return n
	}
	if n := under(s.KeyID); n != 1 {
		t.Fatalf("%d stores under the first key", n)
	}
	next := e.id("key")
	for i, want := range []bool{true, false} { // the second knows an old wrapped key
		e.update(t, func(ctx context.Context, tx store.Tx) error {
			done, err := tx.RewrapSecretStore(ctx, s, next, "wrapped anew")
			if err == nil && done != want {
				t.Errorf("attempt %d: %v", i, done)
			}
			return err
		})
	}
	if under(s.KeyID) != 0 || under(next) != 1 {
		t.Errorf("%d under the old key, %d under the new one", under(s.KeyID), under(next))
	}
}

func (e *env) secretRefused(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	for name, change := range map[string]func(*store.Secret){
		"large":   func(x *store.Secret) { x.Sealed = make([]byte, store.MaxSecret+1) },
		"no path": func(x *store.Secret) { x.Path = "" },
		"fields":  func(x *store.Secret) { x.Fields = []string{strings.Repeat("f", store.MaxSecretFields)} },
	} {
		t.Run(name, func(t *testing.T) {
			x := &store.Secret{OrgID: s.OrgID, StoreID: s.ID, Path: "p", Version: 1, CreatedAt: start, UpdatedAt: start}
			change(x)
			wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.PutSecret(ctx, x, s.Name) }), fault.Invalid)
		})
	}
}

// secretAudit: a row says which secret, and neither what it is nor a digest of it.
func (e *env) secretAudit(t *testing.T) {
	s := e.secretStore(t, e.id("org"))
	made := e.secret(t, s, "p", "the sealed text", start)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecret(ctx, made, s.Name) })
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSecretStore(ctx, s.OrgID, s.Name) })
	if err := e.store.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		rows, err := r.AuditAfter(ctx, s.OrgID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, row := range rows {
			if strings.Contains(row.Record, "sealed text") || strings.Contains(row.Record, "sha256:") {
				t.Errorf("row %s", row.Record)
			}
			for _, part := range []string{`"kind":"secret_store"`, `"kind":"secret"`} {
				if strings.Contains(row.Record, part) {
					told = append(told, part)
				}
			}
		}
		if len(rows) != 4 || len(told) != 4 {
			t.Errorf("%d rows, of secrets %v", len(rows), told)
		}
	})
}
