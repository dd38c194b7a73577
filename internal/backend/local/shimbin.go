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

// shimBinary returns the shim: from a path if one is given, else the one in this binary.
func shimBinary(path string) ([]byte, error) {
	if path != "" {
		return os.ReadFile(path)
	}
	data, err := shimFiles.ReadFile("shimbin/" + shimName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "this binary was built without %s, the init of every sandbox", shimName).
			WithHint("build it with: make build").WithCause(err)
	}
	return data, err
}

// openMode is for a runtime that reads what it executes.
const openMode = 0o755

// installShim writes the shim to a directory of its content's digest below dir, once, and returns its path. A running
// sandbox keeps the version that it was started with.
func installShim(dir string, data []byte, mode fs.FileMode) (string, error) {
	sum := sha256.Sum256(data)
	home := filepath.Join(dir, hex.EncodeToString(sum[:8]))
	path := filepath.Join(home, shimName)
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(data)) && info.Mode().Perm() == mode {
		return path, nil
	}
	if err := os.MkdirAll(home, 0o711); err != nil {
		return "", err
	}
	temp := path + ".tmp"
	if err := os.WriteFile(temp, data, 0o700); err != nil {
		return "", err
	}
	if err := os.Chmod(temp, mode); err != nil {
		return "", err
	}
	return path, os.Rename(temp, path)
}

// EmbeddedShim returns the shim in this binary, which is also the init of pods.
func EmbeddedShim() ([]byte, error) { return shimBinary("") }
