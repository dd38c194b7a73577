package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// Client pulls from registries, within their budgets. It is safe for concurrent use.
type Client struct {
	cfg    Config
	closed []egress.Closed

	mu sync.Mutex
	// transports and budgets are by host of the registry that is pulled from: of those with settings of their own. The others have one
	// transport, and of their budgets so many are kept: whoever launches names hosts.
	transports map[string]*http.Transport
	budgets    map[string]*budget
	others     *lru.LRU[string, *budget]
}

// New returns a client. An error is an Invalid fault: a configuration that makes no sense, or names files that do not.
func New(cfg Config) (*Client, error) {
	checked, err := cfg.check()
	if err != nil {
		return nil, err
	}
	others, err := lru.NewLRU[string, *budget](MaxOtherHosts, nil)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: checked, closed: closures(), transports: map[string]*http.Transport{}, budgets: map[string]*budget{}, others: others}, nil
}

// Close lets connections go. No pull may be under way.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Allowed refuses references to registries that the operator does not allow: Precondition, IMAGE_PULL_FAILED.
func (c *Client) Allowed(host string) error {
	if c.cfg.allowed(host) {
		return nil
	}
	what := "this runner pulls from " + strings.Join(c.cfg.Allow, ", ") + " alone"
	if len(c.cfg.Allow) == 0 {
		what = "this runner pulls from no registry"
	}
	return fault.Preconditionf(fault.ReasonImagePullFailed, "images of registry %s are not allowed here: %s", host, what)
}

// Session is the reading of one repository, authenticated.
type Session struct {
	client *Client
	repo   name.Repository
	creds  credentials
	http   *http.Client
	budget *budget
}

// Open authenticates for reading a repository. Errors are faults, as of the methods of Session.
func (c *Client) Open(ctx context.Context, repo name.Repository) (*Session, error) {
	s := &Session{client: c, repo: repo}
	within, cancel := context.WithTimeoutCause(ctx, c.cfg.Limits.Manifest, errManifestTime)
	defer cancel()
	var err error
	if s.creds, err = c.credentials(repo); err != nil {
		return nil, fault.Preconditionf(fault.ReasonImagePullFailed, "registry %s: %v", repo.RegistryStr(), err)
	}
	base, err := c.reach(repo.RegistryStr())
	if err != nil {
		return nil, fault.Preconditionf(fault.ReasonImagePullFailed, "registry %s: %v", repo.RegistryStr(), err)
	}
	s.budget = c.budget(repo.RegistryStr())
	var options []name.Option
	if c.cfg.Hosts[repo.RegistryStr()].Insecure {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(repo.RegistryStr(), options...)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonImageInvalid, "%v", err)
	}
	var tr http.RoundTripper
	err = c.again(within, s.budget, func() (bool, error) {
		var err error
		tr, err = transport.NewWithContext(within, reg, s.creds.auth, transport.NewUserAgent(base, userAgent), []string{repo.Scope(transport.PullScope)})
		return false, err
	})
	if err != nil {
		return nil, s.failed(ctx, "authentication", timed(within, err))
	}
	s.repo.Registry = reg
	s.http = &http.Client{Transport: tr, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > MaxRedirects {
			return blocked("it redirects more than %d times", MaxRedirects)
		}
		return nil
	}}
	return s, nil
}

// userAgent is what registries see in their logs.
const userAgent = "berm"

// reach returns the guarded transport for pulls from a host.
func (c *Client) reach(host string) (http.RoundTripper, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, listed := c.cfg.Hosts[host]; !listed {
		host = ""
	}
	t, ok := c.transports[host]
	if !ok {
		var err error
		if t, err = c.transport(c.cfg.Hosts[host]); err != nil {
			return nil, err
		}
		c.transports[host] = t
	}
	return &guard{next: t, client: c}, nil
}

func (c *Client) budget(host string) *budget {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, listed := c.cfg.Hosts[host]
	b := c.budgets[host]
	if !listed {
		b, _ = c.others.Get(host)
	}
	switch {
	case b != nil:
	case listed:
		b = newBudget(h)
		c.budgets[host] = b
	default:
		b = newBudget(h)
		c.others.Add(host, b)
	}
	return b
}

// timed returns the cause of a time that passed in place of the error that it became.
func timed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// accepted are the forms of manifests that are asked for.
func accepted() string {
	return strings.Join([]string{
		string(types.OCIImageIndex), string(types.OCIManifestSchema1), string(types.DockerManifestList), string(types.DockerManifestSchema2),
	}, ", ")
}

// Manifest returns a manifest or index by tag or digest, and its descriptor. Its digest is that of the bytes, and the one asked
// for.
func (s *Session) Manifest(ctx context.Context, reference string) ([]byte, v1.Descriptor, error) {
	what := "manifest " + reference
	if err := s.budget.pull(ctx); err != nil {
		return nil, v1.Descriptor{}, s.failed(ctx, what, err)
	}
	data, kind, err := s.get(ctx, Manifests, reference, MaxManifestBytes)
	if err != nil {
		return nil, v1.Descriptor{}, s.failed(ctx, what, err)
	}
	mt, _, _ := strings.Cut(kind, ";")
	d := v1.Descriptor{MediaType: types.MediaType(strings.TrimSpace(mt)), Size: int64(len(data)), Digest: digestOf(data)}
	switch {
	case strings.Contains(reference, ":") && d.Digest.String() != reference:
		return nil, d, s.failed(ctx, what, lie("its content has digest %s", d.Digest))
	case d.MediaType.IsSchema1():
		return nil, d, s.failed(ctx, what, lie("it has the old schema 1, which has no digests to check; the image must be pushed anew"))
	case !d.MediaType.IsIndex() && !d.MediaType.IsImage():
		return nil, d, s.failed(ctx, what, lie("media type %q is neither index nor image manifest", d.MediaType))
	}
	return data, d, nil
}

// Small returns the verified content of a blob of at most limit bytes, such as a configuration.
func (s *Session) Small(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	what := "blob " + d.Digest.String()
	if d.Size < 0 || d.Size > min(limit, MaxManifestBytes) {
		return nil, s.failed(ctx, what, lie("it has %d bytes, at most %d make sense", d.Size, min(limit, MaxManifestBytes)))
	}
	data, _, err := s.get(ctx, Blobs, d.Digest.String(), d.Size)
	switch {
	case err != nil:
		return nil, s.failed(ctx, what, err)
	case int64(len(data)) != d.Size:
		return nil, s.failed(ctx, what, lie("it has %d bytes, the manifest says %d", len(data), d.Size))
	case digestOf(data) != d.Digest:
		return nil, s.failed(ctx, what, lie("its content has digest %s", digestOf(data)))
	}
	return data, nil
}

// get reads something small, with all attempts within the time for a manifest.
func (s *Session) get(ctx context.Context, kind Kind, id string, limit int64) (data []byte, contentType string, err error) {
	within, cancel := context.WithTimeoutCause(ctx, s.client.cfg.Limits.Manifest, errManifestTime)
	defer cancel()
	err = s.client.again(within, s.budget, func() (bool, error) {
		req, err := s.request(within, http.MethodGet, kind, id)
		if err != nil {
			return false, err
		}
		req.Header.Set("Accept", accepted())
		resp, err := s.http.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if err := checkStatus(resp, http.StatusOK); err != nil {
			return false, err
		}
		if resp.ContentLength > limit {
			return false, lie("it has %d bytes, at most %d are taken", resp.ContentLength, limit)
		}
		var b bytes.Buffer
		n, err := b.ReadFrom(io.LimitReader(resp.Body, limit+1))
		if n > limit {
			return false, lie("it has more than %d bytes", limit)
		}
		data, contentType = b.Bytes(), resp.Header.Get("Content-Type")
		return false, err
	})
	return data, contentType, timed(within, err)
}

// request makes a request in the repository.
func (s *Session) request(ctx context.Context, method string, kind Kind, id string) (*http.Request, error) {
	u := fmt.Sprintf("%s://%s/v2/%s/%s/%s", s.repo.Scheme(), s.repo.RegistryStr(), s.repo.RepositoryStr(), kind, id)
	return http.NewRequestWithContext(ctx, method, u, nil)
}

func digestOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
