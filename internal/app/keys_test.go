package app

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// TestKeysOfAServer: a server with a database of its own makes a key, once; keys that somebody gave and that do not fit end a start;
// without the key a server starts and says so.
func TestKeysOfAServer(t *testing.T) {
	dir := t.TempDir()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite://" + filepath.Join(dir, "berm.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var out bytes.Buffer
	open := func(cfg Config) (keyring.Ring, error) {
		t.Helper()
		out.Reset()
		cfg.DataDir, cfg.Out = dir, &out
		a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), store: st}
		return a.openKeys(t.Context())
	}
	id := func(r keyring.Ring) string {
		t.Helper()
		if r == nil {
			t.Fatal("no key")
		}
		id, err := r.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if r, err := open(Config{Database: "postgres://shared"}); r != nil || err != nil {
		t.Errorf("with a database that others share: %v, %v", r, err)
	}
	first, err := open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the key: %v, %v", info, err)
	}
	if again, err := open(Config{}); err != nil || id(again) != id(first) {
		t.Errorf("another start has another key: %v", err)
	}
	svc := control.New(t.Context(), control.Config{Store: st, Keys: first})
	defer svc.Close()
	if _, err := svc.CreateSecretStore(t.Context(), core.Principal{OrgID: "o", TokenID: "t", Actor: "token:t", Role: core.RoleAdmin}, "team"); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, keyring.NewFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(Config{SecretsKey: other}); !fault.HasReason(err, keyring.ReasonKeyMissing) || !strings.Contains(err.Error(), id(first)) {
		t.Errorf("with another key: %v", err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if r, err := open(Config{}); r != nil || err != nil || !strings.Contains(out.String(), id(first)) {
		t.Errorf("without the key: %v, %v, said %q", r, err, out.String())
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a new key was made while stores are under another")
	}
	if r, err := open(Config{SecretsKey: path + ".away"}); err != nil || id(r) != id(first) {
		t.Errorf("with the key from elsewhere: %v", err)
	}
	if err := (&Config{SecretsKey: "a", SecretsKMS: "/b"}).checkKeys(); !fault.Is(err, fault.Invalid) {
		t.Errorf("two sources: %v", err)
	}
}
