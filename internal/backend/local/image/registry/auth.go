package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// credentials are what a registry is told about who asks. They are read anew for each pull, so that a file which is replaced,
// as mounted secrets are, counts at once.
type credentials struct {
	auth     authn.Authenticator
	identity Identity
	// secrets are the texts that must not be in any message.
	secrets []string
}

// credentials finds those for a repository in the file of its registry: under the repository first, then under the host.
func (c *Client) credentials(repo name.Repository) (credentials, error) {
	none := credentials{auth: authn.Anonymous}
	file := c.cfg.authFile(repo.RegistryStr())
	if file == "" {
		return none, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return none, fmt.Errorf("the credentials file %s cannot be read: %w", file, bare(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxCredentialsBytes+1))
	switch {
	case err != nil:
		return none, fmt.Errorf("the credentials file %s cannot be read: %w", file, bare(err))
	case len(data) > MaxCredentialsBytes:
		return none, fmt.Errorf("the credentials file %s has more than %d bytes", file, MaxCredentialsBytes)
	}
	parsed, err := config.LoadFromReader(strings.NewReader(string(data)))
	if err != nil {
		// The parser may quote what it read.
		return none, fmt.Errorf("the credentials file %s is not in the form of Docker's config.json", file)
	}
	for _, key := range []string{repo.Name(), repo.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		found, err := parsed.GetAuthConfig(key)
		if err != nil {
			return none, fmt.Errorf("the credentials for %s cannot be had from the helper that %s names", key, file)
		}
		found.ServerAddress = ""
		if found != (types.AuthConfig{}) {
			return fromConfig(key, found), nil
		}
	}
	return none, nil
}

// fromConfig are the credentials of an entry of the file.
func fromConfig(entry string, a types.AuthConfig) credentials {
	config := authn.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	c := credentials{auth: authn.FromConfig(config), identity: identityOf(entry, config)}
	basic := base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	for _, s := range []string{a.Password, a.Auth, a.IdentityToken, a.RegistryToken, basic} {
		if len(s) >= shortestSecret {
			c.secrets = append(c.secrets, s)
		}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(c.secrets, func(a, b string) int { return len(b) - len(a) })
	return c
}

// shortestSecret is the least length of a text that is cut out of messages: shorter ones are in every other word.
const shortestSecret = 4

// scrub returns text without credentials, control characters and more than a message can hold. Registries write some of it.
func (c credentials) scrub(text string) string {
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "…")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > MaxErrorText {
		text = strings.ToValidUTF8(text[:MaxErrorText], "") + "…"
	}
	return strings.TrimSpace(text)
}

// bare is the reason alone of an error of the file system, whose name the message has already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
