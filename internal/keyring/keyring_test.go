package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
)

func TestSealedValuesBelongToTheirPlace(t *testing.T) {
	key := keyring.NewKey()
	at := keyring.Place{OrgID: "o", StoreID: "s", Path: "a/b", Version: 3}
	value := []byte("the value")
	sealed, err := keyring.Seal(key, at, value)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, value) {
		t.Fatal("the value is in what was sealed")
	}
	if again, _ := keyring.Seal(key, at, value); bytes.Equal(again, sealed) {
		t.Error("two seals of one value are the same: they say that the values are")
	}
	got, err := keyring.Open(key, at, sealed)
	if err != nil || !bytes.Equal(got, value) {
		t.Fatalf("opened %q, %v", got, err)
	}
	for name, other := range map[string]keyring.Place{
		"organization": {OrgID: "p", StoreID: "s", Path: "a/b", Version: 3},
		"store":        {OrgID: "o", StoreID: "t", Path: "a/b", Version: 3},
		"path":         {OrgID: "o", StoreID: "s", Path: "a/c", Version: 3},
		"version":      {OrgID: "o", StoreID: "s", Path: "a/b", Version: 2},
		"border":       {OrgID: "os", StoreID: "", Path: "a/b", Version: 3},
	} {
		if _, err := keyring.Open(key, other, sealed); !fault.HasReason(err, keyring.ReasonUnreadable) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := keyring.Open(keyring.NewKey(), at, sealed); !fault.HasReason(err, keyring.ReasonUnreadable) {
		t.Errorf("another key: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := keyring.Open(key, at, changed); !fault.HasReason(err, keyring.ReasonUnreadable) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := keyring.Open(key, at, sealed[:5]); !fault.HasReason(err, keyring.ReasonUnreadable) {
		t.Errorf("cut: %v", err)
	}
}

func line(b byte, n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, n)) + "\n"
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeysAreExchanged: what an older key wrapped is read while that key is in the file, and no longer.
func TestKeysAreExchanged(t *testing.T) {
	ring := func(text string) *keyring.File {
		t.Helper()
		f, err := keyring.ReadFile(write(t, text, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	key := keyring.NewKey()
	before := ring(line(1, 32))
	w, err := before.Wrap(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.Text, base64.StdEncoding.EncodeToString(key)) {
		t.Fatal("the key is in what it is wrapped in")
	}
	both := ring("# new\n" + line(2, 32) + "\n" + line(1, 32))
	if got, err := both.Unwrap(t.Context(), w); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("with the key in second place: %v", err)
	}
	again, err := both.Wrap(t.Context(), key)
	if err != nil || again.KeyID == w.KeyID {
		t.Fatalf("wrapped by %s, as before: %v", again.KeyID, err)
	}
	after := ring(line(2, 32))
	if got, err := after.Unwrap(t.Context(), again); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("after the exchange: %v", err)
	}
	if _, err := after.Unwrap(t.Context(), w); !fault.HasReason(err, keyring.ReasonKeyMissing) || !strings.Contains(err.Error(), w.KeyID) {
		t.Errorf("the old key is gone: %v", err)
	}
	if lacks := after.Lacks([]string{w.KeyID, again.KeyID, "kms:x"}); strings.Join(lacks, " ") != w.KeyID+" kms:x" {
		t.Errorf("lacks %v", lacks)
	}
	w.Text = again.Text
	if _, err := before.Unwrap(t.Context(), w); !fault.HasReason(err, keyring.ReasonUnreadable) {
		t.Errorf("another's key: %v", err)
	}
}

func TestWrongFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {line(1, 32), 0o604, "mode 0604"},
		"writable by group":  {line(1, 32), 0o460, "mode 0460"},
		"short key":          {line(1, 16), 0o600, "line 1 a key of 16 bytes"},
		"no base64":          {"# x\nhunter2-hunter2\n", 0o600, "line 2"},
		"empty":              {"# nothing\n", 0o600, "has no key"},
		"twice":              {line(1, 32) + line(1, 32), 0o600, "line 2 twice"},
		"large":              {strings.Repeat("#\n", keyring.MaxFile), 0o600, "at most"},
	} {
		_, err := keyring.ReadFile(write(t, c.text, c.mode))
		if !fault.HasReason(err, keyring.ReasonKeyInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the text is in the error: %v", name, err)
		}
	}
	if _, err := keyring.ReadFile(filepath.Join(t.TempDir(), "none")); !fault.HasReason(err, keyring.ReasonKeyInvalid) {
		t.Errorf("no file: %v", err)
	}
	if _, err := keyring.ReadFile(t.TempDir()); !fault.HasReason(err, keyring.ReasonKeyInvalid) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := keyring.ReadFile(write(t, string(keyring.NewFile()), 0o440)); err != nil { // as Kubernetes mounts it
		t.Errorf("a new file: %v", err)
	}
}
