package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/keyring/kms"
	"github.com/bermhq/berm/internal/store"
)

// keyFile is the name of the file of keys that a server with a database of its own makes itself, in the data directory.
const keyFile = "secrets.key"

// checkKeys refuses two sources of keys.
func (c *Config) checkKeys() error {
	if c.SecretsKey != "" && c.SecretsKMS != "" {
		return fault.Invalidf("USAGE", "--secrets-key and --secrets-kms exclude each other")
	}
	return nil
}

// openKeys opens the keys of secret stores, nil where there are none, and holds them against those that stores are under. A key that somebody chose and
// that does not fit ends the start; where nobody chose one, the server does without, and says so: stores can be removed then.
func (a *app) openKeys(ctx context.Context) (keyring.Ring, error) {
	var under []string
	if err := a.store.View(ctx, func(r store.Reader) error {
		keys, err := r.SecretKeys(ctx)
		under = nil
		for _, k := range keys {
			under = append(under, k.ID)
		}
		return err
	}); err != nil {
		return nil, err
	}
	ring, chosen, err := a.chosenKeys(len(under) > 0)
	if err != nil || ring == nil && len(under) == 0 {
		return nil, err
	}
	lacked := under
	if ring != nil {
		lacked = ring.Lacks(under)
	}
	switch {
	case len(lacked) == 0:
	case chosen:
		return nil, keyring.Missing(lacked)
	default:
		a.log.Error("secret stores cannot be read", "error", keyring.Missing(lacked))
		fmt.Fprintln(a.cfg.Out, "Warning:", keyring.Missing(lacked).Error())
	}
	return ring, nil
}

// chosenKeys returns the keys that flags name, or those of the data directory. A new key is made where nothing depends on another.
func (a *app) chosenKeys(used bool) (ring keyring.Ring, chosen bool, err error) {
	switch path := filepath.Join(a.cfg.DataDir, keyFile); {
	case a.cfg.SecretsKMS != "":
		plugin, err := kms.Dial(a.cfg.SecretsKMS)
		if err != nil {
			return nil, true, err
		}
		a.kms = plugin
		return plugin, true, nil
	case a.cfg.SecretsKey != "":
		ring, err := keyring.ReadFile(a.cfg.SecretsKey)
		return orNone(ring, err), true, err
	case a.cfg.Database != "":
		return nil, false, nil // Others share it, and a key of this directory would be none of theirs.
	default:
		_, err := os.Lstat(path)
		switch {
		case err == nil:
		case !errors.Is(err, fs.ErrNotExist):
			return nil, false, fault.Invalidf("DATA_DIR", "cannot read %s: %v", path, err)
		case used:
			return nil, false, nil
		default:
			if err := writeKey(path, keyring.NewFile()); err != nil {
				return nil, false, fault.Invalidf("DATA_DIR", "cannot write %s: %v", path, err)
			}
		}
		ring, err := keyring.ReadFile(path)
		return orNone(ring, err), false, err
	}
}

// orNone keeps a nil pointer from being a ring.
func orNone(f *keyring.File, err error) keyring.Ring {
	if err != nil {
		return nil
	}
	return f
}

// writeKey makes the file of a key: it is on the disk before anything depends on it.
func writeKey(path string, text []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
