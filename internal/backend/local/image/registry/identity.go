package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Identity is as whom a registry is asked. It can be compared with one that was written down before, as a Mark.
type Identity struct {
	// entry is the entry of the credentials file, a repository or a host; "" for nobody in particular.
	entry  string
	secret string
}

// Mark is what is written down of an Identity: which entry of the credentials file it was, and a digest of what was in it, with a salt
// of its own. The zero value is nobody in particular: what a registry gives to everybody.
type Mark struct {
	Entry string `json:"entry,omitempty"`
	Salt  string `json:"salt,omitempty"`
	Sum   string `json:"sum,omitempty"`
}

// Identity reads as whom a repository is asked now. Nothing is asked of it.
func (c *Client) Identity(repo name.Repository) (Identity, error) {
	creds, err := c.credentials(repo)
	return creds.identity, err
}

// Identity is as whom the session asks.
func (s *Session) Identity() Identity { return s.creds.identity }

func identityOf(entry string, a authn.AuthConfig) Identity {
	return Identity{entry: entry, secret: strings.Join([]string{a.Username, a.Password, a.Auth, a.IdentityToken, a.RegistryToken}, "\x00")}
}

// Mark returns what to write down.
func (i Identity) Mark() Mark {
	if i.entry == "" {
		return Mark{}
	}
	salt := rand.Text()
	return Mark{Entry: i.entry, Salt: salt, Sum: i.sum(salt)}
}

func (i Identity) sum(salt string) string {
	h := hmac.New(sha256.New, []byte(salt))
	h.Write([]byte(i.secret))
	return hex.EncodeToString(h.Sum(nil))
}

// Public reports whether it is the mark of nobody in particular.
func (m Mark) Public() bool { return m == Mark{} }

// Covers reports whether what was opened to whom the mark is of is open to i: it was open to everybody, or i is the same.
func (m Mark) Covers(i Identity) bool {
	return m.Public() || m.Entry == i.entry && hmac.Equal([]byte(m.Sum), []byte(i.sum(m.Salt)))
}

// Holds asks whether the repository has a manifest, or a blob, without reading it: nil when it has. Errors are those of Manifest.
func (s *Session) Holds(ctx context.Context, kind Kind, digest string) error {
	within, cancel := context.WithTimeoutCause(ctx, s.client.cfg.Limits.Manifest, errManifestTime)
	defer cancel()
	err := s.client.again(within, s.budget, func() (bool, error) {
		req, err := s.request(within, http.MethodHead, kind, digest)
		if err != nil {
			return false, err
		}
		req.Header.Set("Accept", accepted())
		resp, err := s.http.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		return false, checkStatus(resp, http.StatusOK)
	})
	return s.failed(ctx, strings.TrimSuffix(string(kind), "s")+" "+digest, timed(within, err))
}

// Kind is what a digest names in a repository.
type Kind string

// The kinds.
const (
	Manifests Kind = "manifests"
	Blobs     Kind = "blobs"
)
