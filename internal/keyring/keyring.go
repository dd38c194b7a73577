// Package keyring encrypts what is kept of secrets. Every store of secrets has a data key of its own, which seals its values; the
// data key is itself kept wrapped by a key of a Ring: a file of keys, or a plug-in (package kms).
//
// What is sealed is bound to its place. A value that is moved to another path, store or organization, or replaced by an older
// version of itself, does not open there.
package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"github.com/bermhq/berm/internal/core/fault"
)

// KeySize is the size of every key, in bytes: AES-256.
const KeySize = 32

// Reasons of this package.
const (
	ReasonKeyMissing     = "SECRETS_KEY_MISSING"
	ReasonKeyInvalid     = "SECRETS_KEY_INVALID"
	ReasonKeyUnavailable = "SECRETS_KEY_UNAVAILABLE"
	ReasonUnreadable     = "SECRET_UNREADABLE"
)

// Wrapped is a data key that only a Ring can read.
type Wrapped struct {
	// KeyID names the key that wraps it, and is no secret.
	KeyID string
	// Text is the wrapped key, in a form of the ring's.
	Text string
}

// Ring wraps data keys. Methods are safe for concurrent use. Errors are faults: Precondition for a key that is not there, or for
// what it did not wrap, Unavailable when that cannot be told.
type Ring interface {
	// Current returns the id of the key that Wrap uses.
	Current(ctx context.Context) (string, error)
	Wrap(ctx context.Context, key []byte) (Wrapped, error)
	Unwrap(ctx context.Context, w Wrapped) ([]byte, error)
	// Lacks returns those of some key ids that Unwrap surely has no key for.
	Lacks(ids []string) []string
}

// Place is where a value belongs.
type Place struct {
	OrgID, StoreID, Path string
	Version              int64
}

// bytes is the place as what is authenticated with a value: every part with its length before it, so that no two places are alike.
func (p Place) bytes() []byte {
	out := []byte("berm secret 1\x00")
	for _, part := range []string{p.OrgID, p.StoreID, p.Path} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part))) //nolint:gosec // ids and paths are short
		out = append(out, part...)
	}
	return binary.BigEndian.AppendUint64(out, uint64(p.Version)) //nolint:gosec // the bits are what counts
}

// NewKey returns a data key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // it never fails
	return key
}

// Seal encrypts a value for its place.
func Seal(key []byte, at Place, value []byte) ([]byte, error) {
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, value, at.bytes()), nil
}

// Open decrypts what Seal made for the place.
func Open(key []byte, at Place, sealed []byte) ([]byte, error) {
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	value, err := a.Open(nil, nil, sealed, at.bytes())
	if err != nil {
		return nil, fault.Preconditionf(ReasonUnreadable, "what is stored of secret %.80q does not belong there, or was changed", at.Path).
			WithHint("write the secret again; if others fail too, the database was restored in part or changed by hand")
	}
	return value, nil
}

// aead is AES-256-GCM with a random nonce before the text. One key seals far fewer values than the 2³² that such nonces are good for.
func aead(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fault.Internalf(nil, "a key of %d bytes", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.Internalf(err, "prepare a key")
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.Internalf(err, "prepare a key")
	}
	return a, nil
}
