// Package kms is a keyring.Ring over a key management plug-in: the protocol of Kubernetes' KMS v2, gRPC over a Unix socket, so that
// the plug-ins that exist for it work.
package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
)

const (
	// callTimeout bounds one call of the plug-in: a launch waits for it.
	callTimeout = 5 * time.Second
	// keepFor is how long an unwrapped data key is kept in memory, and so how long a key that was taken back is still used; maxKept is
	// how many are.
	keepFor = 5 * time.Minute
	maxKept = 1024
	// maxKeyID is the longest id of a key, and maxText the longest wrapped key, in bytes: the protocol says less than 1 kB of each part.
	maxKeyID = 400
	maxText  = 16 << 10
	// prefix begins the ids of keys of a plug-in.
	prefix = "kms:"
	// healthy is what a plug-in says that works.
	healthy = "ok"
)

// KMS is a plug-in.
type KMS struct {
	socket string
	conn   *grpc.ClientConn
	client kmsv2.KeyManagementServiceClient
	kept   *lru.Cache[keyring.Wrapped, kept]
}

// kept is a data key in memory.
type kept struct {
	key   []byte
	until time.Time
}

var _ keyring.Ring = (*KMS)(nil)

// wrapped is the Text of a wrapped key.
type wrapped struct {
	Ciphertext  []byte            `json:"ciphertext"`
	Annotations map[string][]byte `json:"annotations,omitempty"`
}

// Dial prepares a connection to a plug-in. It is made with the first call: a plug-in may come later than the server.
func Dial(socket string) (*KMS, error) {
	path := strings.TrimPrefix(socket, "unix://")
	if !filepath.IsAbs(path) {
		return nil, fault.Invalidf(keyring.ReasonKeyInvalid, "--secrets-kms %q is not the absolute path of a Unix socket", socket)
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fault.Invalidf(keyring.ReasonKeyInvalid, "cannot use --secrets-kms %q", socket).WithCause(err)
	}
	cache, err := lru.New[keyring.Wrapped, kept](maxKept)
	if err != nil {
		return nil, fault.Internalf(err, "prepare the connection to the key plug-in")
	}
	return &KMS{socket: path, conn: conn, client: kmsv2.NewKeyManagementServiceClient(conn), kept: cache}, nil
}

// Close ends the connection.
func (k *KMS) Close() error { return k.conn.Close() }

// Current asks the plug-in for its key.
func (k *KMS) Current(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := k.client.Status(ctx, &kmsv2.StatusRequest{})
	switch {
	case err != nil:
		return "", k.unavailable("say which key it has", err)
	case s.GetHealthz() != healthy:
		return "", k.unavailable("work", fault.Internalf(nil, "it says %.200q", s.GetHealthz()))
	}
	return k.id(s.GetKeyId())
}

func (k *KMS) id(id string) (string, error) {
	if id == "" || len(id) > maxKeyID {
		return "", k.unavailable("name its key", fault.Internalf(nil, "an id of %d bytes", len(id)))
	}
	return prefix + id, nil
}

// Wrap has the plug-in encrypt a data key.
func (k *KMS) Wrap(ctx context.Context, key []byte) (keyring.Wrapped, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := k.client.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: key, Uid: uuid.NewString()})
	if err != nil {
		return keyring.Wrapped{}, k.unavailable("wrap a key", err)
	}
	id, err := k.id(out.GetKeyId())
	if err != nil {
		return keyring.Wrapped{}, err
	}
	text, err := json.Marshal(wrapped{out.GetCiphertext(), out.GetAnnotations()})
	if err != nil || len(text) > maxText || len(out.GetCiphertext()) == 0 {
		return keyring.Wrapped{}, k.unavailable("wrap a key", fault.Internalf(err, "it answered with %d bytes", len(text)))
	}
	w := keyring.Wrapped{KeyID: id, Text: string(text)}
	// A plug-in that cannot read what it wrote is noticed before anything depends on it.
	if back, err := k.Unwrap(ctx, w); err != nil {
		return keyring.Wrapped{}, err
	} else if !bytes.Equal(back, key) {
		return keyring.Wrapped{}, k.unavailable("wrap a key", fault.Internalf(nil, "what it unwraps is another"))
	}
	return w, nil
}

// Unwrap has the plug-in decrypt a data key, unless that was done in the last minutes.
func (k *KMS) Unwrap(ctx context.Context, w keyring.Wrapped) ([]byte, error) {
	if held, ok := k.kept.Get(w); ok && time.Now().Before(held.until) {
		return held.key, nil
	}
	id, ours := strings.CutPrefix(w.KeyID, prefix)
	if !ours {
		return nil, keyring.Missing([]string{w.KeyID})
	}
	var parts wrapped
	if err := json.Unmarshal([]byte(w.Text), &parts); err != nil {
		return nil, fault.Preconditionf(keyring.ReasonUnreadable, "the key of the secret store cannot be read: what is stored of it was changed")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := k.client.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: parts.Ciphertext, Annotations: parts.Annotations, KeyId: id, Uid: uuid.NewString()})
	if err != nil {
		return nil, k.unavailable("unwrap a key", err)
	}
	if len(out.GetPlaintext()) != keyring.KeySize {
		return nil, k.unavailable("unwrap a key", fault.Internalf(nil, "it answered with %d bytes", len(out.GetPlaintext())))
	}
	k.kept.Add(w, kept{out.GetPlaintext(), time.Now().Add(keepFor)})
	return out.GetPlaintext(), nil
}

// Lacks returns the ids of other rings. Which keys a plug-in has, it does not say.
func (k *KMS) Lacks(ids []string) []string {
	var out []string
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) {
			out = append(out, id)
		}
	}
	return out
}

// unavailable says that the plug-in does not do its work. Its words are told: they are for whoever runs it, and have no key in them.
func (k *KMS) unavailable(what string, err error) error {
	return fault.New(fault.Unavailable, keyring.ReasonKeyUnavailable, "the key plug-in at %s did not %s: %s", k.socket, what, words(err)).
		WithCause(err).WithRetry(time.Second).WithHint("see that it runs, and that the server may open its socket")
}

func words(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return fault.From(err).Message
}
