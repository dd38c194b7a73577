package control_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store"
)

// ring returns keys of 32 equal bytes each; the first wraps.
func ring(t testing.TB, keys ...byte) *keyring.File {
	t.Helper()
	var text strings.Builder
	for _, b := range keys {
		text.WriteString(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, keyring.KeySize)) + "\n")
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := keyring.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// newSecretWorld is a server with a key, and a store "team" with a secret "db" of two fields.
func newSecretWorld(t testing.TB) *world {
	t.Helper()
	w := newWorldWith(t, control.Config{Keys: ring(t, 1)}, fake.Config{})
	_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, "team")
	w.must(err)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "db", map[string][]byte{"user": []byte("app"), "password": []byte("hunter2-canary")})
	w.must(err)
	return w
}

func TestSecretStores(t *testing.T) {
	w := newSecretWorld(t)
	_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, "team")
	wantFault(t, err, fault.Exists, fault.ReasonSecretStoreExists)
	for _, name := range []string{"", "ab", "Team", "1team", "team_x", strings.Repeat("a", 64)} {
		_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, name)
		wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
	}
	for _, name := range []string{"abc", strings.Repeat("a", 63)} {
		_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, name)
		w.must(err)
	}
	list, next, err := w.svc.ListSecretStores(w.ctx(), w.user, control.Page{Size: 2})
	w.must(err)
	if len(list) != 2 || next == "" || list[0].Name != strings.Repeat("a", 63) || list[1].Provider != control.ProviderBerm {
		t.Errorf("%+v, %q", list, next)
	}
	list, next, err = w.svc.ListSecretStores(w.ctx(), w.user, control.Page{Token: next})
	w.must(err)
	if len(list) != 1 || next != "" || list[0].Name != "team" {
		t.Errorf("the next page: %+v, %q", list, next)
	}
	// To another organization it is a store that does not exist.
	other := w.otherOrg("other")
	_, err = w.svc.GetSecretStore(w.ctx(), other, "team")
	_, none := w.svc.GetSecretStore(w.ctx(), other, "none")
	if fault.From(err).Code != fault.NotFound || strings.Replace(err.Error(), "team", "none", 1) != none.Error() {
		t.Errorf("of another organization: %v; of nobody: %v", err, none)
	}
	for what, err := range map[string]error{
		"delete": w.svc.DeleteSecretStore(w.ctx(), other, "team"),
		"secret": w.svc.DeleteSecret(w.ctx(), other, "team", "db"),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.must(w.svc.DeleteSecretStore(w.ctx(), w.admin, "team"))
	_, _, err = w.svc.ListSecrets(w.ctx(), w.user, "team", control.Page{})
	wantFault(t, err, fault.NotFound, fault.ReasonResourceNotFound)
}

func TestSecretsHaveVersionsAndNoValues(t *testing.T) {
	w := newSecretWorld(t)
	list, _, err := w.svc.ListSecrets(w.ctx(), w.user, "team", control.Page{})
	w.must(err)
	if len(list) != 1 || list[0].Path != "db" || list[0].Version != 1 || !slices.Equal(list[0].Fields, []string{"password", "user"}) || list[0].UpdatedBy != w.admin.Actor {
		t.Fatalf("%+v", list[0])
	}
	again, err := w.svc.PutSecret(w.ctx(), w.admin, "team", "db", map[string][]byte{"password": []byte("other")})
	w.must(err)
	if again.Version != 2 || len(again.Fields) != 1 {
		t.Errorf("written again: %+v", again)
	}
	w.must(w.svc.DeleteSecret(w.ctx(), w.admin, "team", "db"))
	wantFault(t, w.svc.DeleteSecret(w.ctx(), w.admin, "team", "db"), fault.NotFound, fault.ReasonSecretNotFound)
	anew, err := w.svc.PutSecret(w.ctx(), w.admin, "team", "db", map[string][]byte{"password": []byte("other")})
	w.must(err)
	if anew.Version != 3 {
		t.Errorf("version %d comes twice", anew.Version)
	}
}

func TestWrongSecrets(t *testing.T) {
	w := newSecretWorld(t)
	const canary = "hunter2-canary"
	many := map[string][]byte{}
	for i := range control.MaxSecretFields + 1 {
		many[strings.Repeat("x", i+1)] = []byte("v")
	}
	for name, c := range map[string]struct {
		path   string
		fields map[string][]byte
		want   string
	}{
		"no fields":     {"p", nil, "fields"},
		"empty":         {"p", map[string][]byte{"a": nil}, "fields[a]"},
		"zero byte":     {"p", map[string][]byte{"a": []byte(canary + "\x00")}, "zero byte"},
		"large":         {"p", map[string][]byte{"a": bytes.Repeat([]byte("x"), control.MaxSecretValue+1)}, "65537 bytes"},
		"together":      {"p", map[string][]byte{"a": half(), "b": half(), "c": half(), "d": half(), "e": []byte("x")}, "bytes together"},
		"many":          {"p", many, "65 fields"},
		"value as name": {"p", map[string][]byte{canary + " !": []byte("x")}, "alone"},
		"no path":       {"", map[string][]byte{"a": []byte("x")}, "path"},
		"dots":          {"a/../b", map[string][]byte{"a": []byte("x")}, "segments"},
		"slash":         {"/a", map[string][]byte{"a": []byte("x")}, "segments"},
		"hash":          {"a#b", map[string][]byte{"a": []byte("x")}, "segments"},
	} {
		_, err := w.svc.PutSecret(w.ctx(), w.admin, "team", c.path, c.fields)
		wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.svc.PutSecret(w.ctx(), w.user, "team", "p", map[string][]byte{"a": []byte("x")})
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "none", "p", map[string][]byte{"a": []byte("x")})
	wantFault(t, err, fault.NotFound, fault.ReasonResourceNotFound)
}

func half() []byte { return bytes.Repeat([]byte("x"), control.MaxSecretValue) }

// TestKeysOfStores: without a key nothing is kept, with another nothing is read, and an exchange leaves the old one without use.
func TestKeysOfStores(t *testing.T) {
	w := newSecretWorld(t)
	value := map[string][]byte{"a": []byte("x")}
	with := func(keys ...byte) {
		t.Helper()
		w.cfg.Keys = nil
		if len(keys) > 0 {
			w.cfg.Keys = ring(t, keys...)
		}
		w.restart()
	}
	with()
	_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, "more")
	wantFault(t, err, fault.Precondition, keyring.ReasonKeyMissing)
	if !strings.Contains(err.Error()+fault.From(err).Hint, "--secrets-key") {
		t.Errorf("it is not said what to set: %v", err)
	}
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "p", value)
	wantFault(t, err, fault.Precondition, keyring.ReasonKeyMissing)

	with(2)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "p", value)
	wantFault(t, err, fault.Precondition, keyring.ReasonKeyMissing)
	_, err = w.svc.RewrapSecretStores(w.ctx(), w.operator)
	wantFault(t, err, fault.Precondition, keyring.ReasonKeyMissing)

	with(2, 1)
	_, err = w.svc.RewrapSecretStores(w.ctx(), w.admin)
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	for i, want := range []int64{1, 0} {
		done, err := w.svc.RewrapSecretStores(w.ctx(), w.operator)
		w.must(err)
		if done.Stores != 1 || done.Rewrapped != want {
			t.Errorf("exchange %d: %+v", i, done)
		}
	}
	with(2)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "p", value)
	w.must(err)
	with()
	w.must(w.svc.DeleteSecretStore(w.ctx(), w.admin, "team")) // what cannot be read can be removed
}

// TestSecretsAreSealedOnDisk: no file of the database has a value, nor a form of it.
func TestSecretsAreSealedOnDisk(t *testing.T) {
	w := newSecretWorld(t)
	w.must(w.store.SealAudit(w.ctx()))
	found := 0
	w.must(filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("password")) { // a field's name is no secret
			found++
		}
		for _, form := range []string{"hunter2-canary", base64.StdEncoding.EncodeToString([]byte("hunter2-canary"))} {
			if bytes.Contains(raw, []byte(form)) {
				t.Errorf("%s has the value", path)
			}
		}
		return err
	}))
	if found == 0 {
		t.Error("no file has even the name of the field: the search is wrong")
	}
	var rows int
	w.must(w.store.View(w.ctx(), func(r store.Reader) error {
		all, err := r.AuditAfter(w.ctx(), w.admin.OrgID, 0, 1000)
		for _, row := range all {
			if strings.Contains(row.Record, `"kind":"secret"`) && strings.Contains(row.Record, `"name":"team/db"`) && strings.Contains(row.Record, `"revision":1`) {
				rows++
			}
		}
		return err
	}))
	if rows != 1 {
		t.Errorf("%d rows of the audit tell of the secret", rows)
	}
}
