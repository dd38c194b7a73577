package local

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/bermhq/berm/internal/core/fault"
)

// shimFiles holds the built shim, packed, beside its README. The pattern matches both, not the shim alone, so that the module compiles
// from a fresh clone, where it is not built yet.
//
//go:embed shimbin/*.[gm][dz]
var shimFiles embed.FS

// shimName is the shim's file name.
const shimName = "berm-shim"

// A shimProgram is the shim's binary: as it is kept, packed in the server's own binary, where it takes 3 MB in place of 7, and unpacked,
// once, when somebody asks.
type shimProgram struct {
	kept   []byte
	size   int64 // unpacked, in bytes
	unpack func() ([]byte, error)
}

// plainShim is a binary that was not packed.
func plainShim(data []byte) shimProgram {
	return shimProgram{kept: data, size: int64(len(data)), unpack: func() ([]byte, error) { return data, nil }}
}

// packedShim is a binary packed by gzip, the last four bytes of which are its size.
func packedShim(kept []byte) (shimProgram, error) {
	if len(kept) < 4 {
		return shimProgram{}, io.ErrUnexpectedEOF
	}
	size := binary.LittleEndian.Uint32(kept[len(kept)-4:])
	return shimProgram{kept: kept, size: int64(size), unpack: sync.OnceValues(func() ([]byte, error) {
		r, err := gzip.NewReader(bytes.NewReader(kept))
		if err != nil {
			return nil, err
		}
		data := bytes.NewBuffer(make([]byte, 0, int(size)+bytes.MinRead))
		_, err = data.ReadFrom(r)
		return data.Bytes(), err
	})}, nil
}

// shimBinary returns the shim: from a path if one is given, else the one in this binary.
func shimBinary(path string) (shimProgram, error) {
	if path != "" {
		data, err := os.ReadFile(path)
		return plainShim(data), err
	}
	data, err := shimFiles.ReadFile("shimbin/" + shimName + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		return shimProgram{}, fault.Preconditionf(fault.ReasonBackendUnsupported, "this binary was built without %s, the init of every sandbox", shimName).
			WithHint("build it with: make build").WithCause(err)
	}
	if err != nil {
		return shimProgram{}, err
	}
	return packedShim(data)
}

// openMode is for a runtime that reads what it executes.
const openMode = 0o755

// installShim writes the shim to a directory of its content's digest below dir, once, and returns its path. A running
// sandbox keeps the version that it was started with.
func installShim(dir string, p shimProgram, mode fs.FileMode) (string, error) {
	sum := sha256.Sum256(p.kept)
	home := filepath.Join(dir, hex.EncodeToString(sum[:8]))
	path := filepath.Join(home, shimName)
	if info, err := os.Stat(path); err == nil && info.Size() == p.size && info.Mode().Perm() == mode {
		return path, nil
	}
	data, err := p.unpack()
	if err != nil {
		return "", err
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
func EmbeddedShim() ([]byte, error) {
	p, err := shimBinary("")
	if err != nil {
		return nil, err
	}
	return p.unpack()
}
