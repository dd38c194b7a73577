package dial

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// The failpoints of a runner's process. A server has none of them.
const (
	fpCredentialWrite   = "runner.before-credential-write"
	fpCredentialWritten = "runner.after-credential-write"
)

// Failpoints lists them.
func Failpoints() []string { return []string{fpCredentialWrite, fpCredentialWritten} }

const (
	// credentialFile is its name in the state directory.
	credentialFile = "credential.json"
	// maxCredential is the largest such file, in bytes.
	maxCredential = 16 << 10
)

// Credential is what a runner proves itself with, as it is kept.
type Credential struct {
	Gateway    string    `json:"gateway"`
	RunnerID   string    `json:"runner_id"`
	RunnerUUID string    `json:"runner_uuid"`
	Identity   string    `json:"identity"`
	Secret     string    `json:"secret"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// Load reads the credential of a state directory, nil when there is none.
func Load(dir string) (*Credential, error) {
	path := filepath.Join(dir, credentialFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if err != nil {
		return nil, fault.Invalidf("DATA_DIR", "cannot read %s: %v", path, err)
	}
	var c Credential
	if len(raw) > maxCredential || json.Unmarshal(raw, &c) != nil || c.Secret == "" || c.RunnerID == "" {
		return nil, fault.Invalidf("DATA_DIR", "%s is no credential of a runner", path).
			WithHint("Restore it, or remove it and enrol again: berm runner join NAME makes a token.")
	}
	return &c, nil
}

// Save replaces the credential of a state directory, safely on disk when it returns, for the owner alone.
func (c *Credential) Save(dir string) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fault.Internalf(err, "write the credential")
	}
	failpoint.Hit(fpCredentialWrite)
	path := filepath.Join(dir, credentialFile)
	if err := replace(path, append(raw, '\n')); err != nil {
		return fault.New(fault.Unavailable, "DATA_DIR", "the credential could not be stored in %s", path).WithCause(err)
	}
	failpoint.Hit(fpCredentialWritten)
	return nil
}

// replace writes beside, syncs and renames: a reader, also after a crash, sees the old text or the new one.
func replace(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
