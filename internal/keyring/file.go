package keyring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of a file of keys.
const (
	// MaxFile is its largest size, in bytes.
	MaxFile = 64 << 10
	// MaxKeys is how many keys it has at most.
	MaxKeys = 64
)

// othersMay are the modes that are refused. A group may read: Kubernetes mounts the files of Secrets as root's, for the group of the pod.
const othersMay = 0o037

// filePrefix begins the ids of keys of a file.
const filePrefix = "file:"

// File is a Ring of the keys of a file.
type File struct {
	ids  []string
	keys map[string][]byte
}

var _ Ring = (*File)(nil)

// ReadFile reads a file of keys: one of 32 random bytes in base64 a line, the first of which wraps; lines of "#" are passed over. Nobody
// but its owner, and its group, may read it.
func ReadFile(path string) (*File, error) {
	wrong := func(format string, args ...any) *fault.Error {
		return fault.Invalidf(ReasonKeyInvalid, "the file of keys "+path+" "+format, args...)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("does not exist").WithHint("make one: umask 077; head -c 32 /dev/urandom | base64 > %s", path)
	}
	if err != nil {
		return nil, wrong("cannot be read: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, wrong("cannot be read: %v", err)
	case !info.Mode().IsRegular():
		return nil, wrong("is no regular file")
	case info.Mode().Perm()&othersMay != 0:
		return nil, wrong("has mode %04o: others than its owner and its group can use it, or the group can write it", info.Mode().Perm()).WithHint("chmod 600 %s", path)
	case info.Size() > MaxFile:
		return nil, wrong("has %d bytes, at most %d make sense", info.Size(), MaxFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, wrong("cannot be read: %v", err)
	}
	return parse(text, wrong)
}

// parse reads the lines. What is wrong with one is said without any of it.
func parse(text []byte, wrong func(string, ...any) *fault.Error) (*File, error) {
	f := &File{keys: map[string][]byte{}}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(line))
		switch {
		case err != nil:
			return nil, wrong("has on line %d what is no base64", number).WithHint("a key is one line: head -c 32 /dev/urandom | base64")
		case len(key) != KeySize:
			return nil, wrong("has on line %d a key of %d bytes; one has %d", number, len(key), KeySize).WithHint("a key is one line: head -c 32 /dev/urandom | base64")
		case len(f.ids) == MaxKeys:
			return nil, wrong("has more than %d keys", MaxKeys)
		}
		id := fingerprint(key)
		if f.keys[id] != nil {
			return nil, wrong("has the key of line %d twice", number)
		}
		f.ids, f.keys[id] = append(f.ids, id), key
	}
	if len(f.ids) == 0 {
		return nil, wrong("has no key").WithHint("a key is one line: head -c 32 /dev/urandom | base64")
	}
	return f, nil
}

// fingerprint names a key. It says nothing of one that is random, which a key is.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(slices.Concat([]byte("berm key id 1\x00"), key))
	return filePrefix + hex.EncodeToString(sum[:8])
}

// NewFile returns the text of a file with a new key.
func NewFile() []byte {
	return []byte("# The key of Berm's secret stores. Without it their secrets are lost.\n" + base64.StdEncoding.EncodeToString(NewKey()) + "\n")
}

// Current returns the id of the first key.
func (f *File) Current(context.Context) (string, error) { return f.ids[0], nil }

// Wrap wraps with the first key.
func (f *File) Wrap(_ context.Context, key []byte) (Wrapped, error) {
	sealed, err := Seal(f.keys[f.ids[0]], wrapping, key)
	if err != nil {
		return Wrapped{}, err
	}
	return Wrapped{KeyID: f.ids[0], Text: base64.StdEncoding.EncodeToString(sealed)}, nil
}

// wrapping is the place of data keys: a key that wraps seals nothing else. Where a data key belongs, what it opens says.
var wrapping = Place{Path: "data key"}

// Unwrap unwraps with the key that wrapped.
func (f *File) Unwrap(_ context.Context, w Wrapped) ([]byte, error) {
	key := f.keys[w.KeyID]
	if key == nil {
		return nil, Missing([]string{w.KeyID})
	}
	sealed, err := base64.StdEncoding.DecodeString(w.Text)
	if err == nil {
		sealed, err = Open(key, wrapping, sealed)
	}
	if err != nil {
		return nil, fault.Preconditionf(ReasonUnreadable, "the key of the secret store cannot be read: what is stored of it was changed").
			WithHint("restore the database; or remove the store and make it again")
	}
	return sealed, nil
}

// Lacks returns the ids that no key of the file has.
func (f *File) Lacks(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return f.keys[id] != nil })
}

// Missing says that secrets are under keys that this server does not have.
func Missing(ids []string) *fault.Error {
	return fault.Preconditionf(ReasonKeyMissing, "secret stores are under keys that this server does not have: %s", strings.Join(ids, ", ")).
		WithMeta("key_ids", strings.Join(ids, ",")).
		WithHint("start every server with all keys: --secrets-key FILE, one a line, or --secrets-kms SOCKET; a store whose key is lost can only be removed")
}
