package local

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bermhq/berm/internal/core/fault"
)

// shimFiles holds the built shim beside its README. Embedding the directory, not the file, lets the module compile from a
// fresh clone, where it is not built yet.
//
//go:embed shimbin
var shimFiles embed.FS

// shimName is the shim's file name.
const shimName = "berm-shim"

// installShim writes the shim to a directory of its content's digest below dir, once, and returns its path. A running
// sandbox keeps the version that it was started with.
func installShim(dir string) (string, error) {
	data, err := shimFiles.ReadFile("shimbin/" + shimName)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.Preconditionf(fault.ReasonBackendUnsupported, "this binary was built without %s, the init of every sandbox", shimName).
			WithHint("build it with: make build").WithCause(err)
	}
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	home := filepath.Join(dir, hex.EncodeToString(sum[:8]))
	path := filepath.Join(home, shimName)
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(data)) {
		return path, nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	temp := path + ".tmp"
	if err := os.WriteFile(temp, data, 0o755); err != nil {
		return "", err
	}
	// A runtime starts it with the ids of the sandbox: everybody may execute it, nobody may write it.
	if err := os.Chmod(temp, 0o555); err != nil {
		return "", err
	}
	return path, os.Rename(temp, path)
}
