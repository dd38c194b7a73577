package control

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// PortLinkTTL is how long a link to a port can be followed, once.
	PortLinkTTL = time.Minute
	// PortPassTTL is how long a browser that followed one may come.
	PortPassTTL = 12 * time.Hour
	// maxPass is the longest pass that is looked at, in bytes; maxFollowed is how many links are remembered as followed, maxFollowedOfToken
	// how many made with one token.
	maxPass            = 1024
	maxFollowed        = 10_000
	maxFollowedOfToken = 100
)

// passKind is what a pass is good for.
type passKind string

const (
	passLink    passKind = "link"
	passBrowser passKind = "browser"
)

// pass lets its bearer come to one port of one sandbox, as the token that it was made with and for no longer than that is valid. It is
// signed with what the store keeps of the token: servers that share a database take each other's, nothing is stored for it, and it ends with
// the token.
type pass struct {
	Kind    passKind `json:"k"`
	Token   string   `json:"t"`
	Sandbox string   `json:"s"`
	Port    int32    `json:"p"`
	// Until is in seconds since 1970. Nonce tells a link from every other one.
	Until int64  `json:"u"`
	Nonce string `json:"n"`
}

func (p *pass) mac(body string, t *core.Token) []byte {
	h := hmac.New(sha256.New, []byte("berm port pass\x00"+t.Hash))
	h.Write([]byte(body))
	return h.Sum(nil)
}

func (p *pass) signed(t *core.Token) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fault.Internalf(err, "write a pass")
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	return body + "." + base64.RawURLEncoding.EncodeToString(p.mac(body, t)), nil
}

func passInvalid() error {
	return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "the link is not valid, or what a browser got for it is not any more").
		WithHint("a link is good for one use within %s, and for %s then: berm port-link SANDBOX PORT makes another", PortLinkTTL, PortPassTTL)
}

// PortLink returns a URL that lets a browser in to a port of a sandbox, once and soon, as the caller.
func (s *Service) PortLink(ctx context.Context, p core.Principal, id string, port int32) (url string, until time.Time, err error) {
	if err := s.allow(ctx, p, "PortLink", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return "", time.Time{}, err
	}
	if err := checkPort(port); err != nil {
		return "", time.Time{}, err
	}
	row, err := s.peek(ctx, p.OrgID, id)
	if err != nil {
		return "", time.Time{}, err
	}
	if now := s.overlay(row); now.Status.Terminal() {
		return "", time.Time{}, notRunning(now)
	}
	token, err := s.tokenByID(ctx, p.TokenID)
	if err != nil {
		return "", time.Time{}, err
	}
	until = s.now().Add(PortLinkTTL)
	text, err := (&pass{Kind: passLink, Token: token.ID, Sandbox: id, Port: port, Until: until.Unix(), Nonce: rand.Text()}).signed(token)
	if err != nil {
		return "", time.Time{}, err
	}
	if s.portLink == nil {
		return "", time.Time{}, fault.Preconditionf(fault.ReasonBackendUnsupported, "ports have no hosts here")
	}
	url, err = s.portLink(id, port, text)
	return url, until, err
}

// EnterPort takes a link to a port, and returns who follows it and the pass for his browser, which is good for PortPassTTL.
func (s *Service) EnterPort(ctx context.Context, link, id string, port int32) (core.Principal, string, error) {
	from, token, err := s.openPass(ctx, passLink, link, id, port)
	if err != nil {
		return core.Principal{}, "", err
	}
	if err := s.followed.follow(from, s.now()); err != nil {
		return core.Principal{}, "", err
	}
	text, err := (&pass{
		Kind: passBrowser, Token: token.ID, Sandbox: id, Port: port, Until: s.now().Add(PortPassTTL).Unix(), Nonce: rand.Text(),
	}).signed(token)
	return principalOf(token), text, err
}

// PortPass returns who a browser with a pass is, at the port that it is for.
func (s *Service) PortPass(ctx context.Context, text, id string, port int32) (core.Principal, error) {
	_, token, err := s.openPass(ctx, passBrowser, text, id, port)
	if err != nil {
		return core.Principal{}, err
	}
	return principalOf(token), nil
}

// openPass reads a pass and the token behind it. Nothing of what it says is believed before its signature is.
func (s *Service) openPass(ctx context.Context, kind passKind, text, id string, port int32) (*pass, *core.Token, error) {
	body, sum, _ := strings.Cut(text, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(body)
	mac, macErr := base64.RawURLEncoding.DecodeString(sum)
	p := &pass{}
	if err != nil || macErr != nil || len(text) > maxPass || json.Unmarshal(decoded, p) != nil {
		return nil, nil, passInvalid()
	}
	if p.Kind != kind || p.Sandbox != id || p.Port != port || !s.now().Before(time.Unix(p.Until, 0)) {
		return nil, nil, passInvalid()
	}
	token, err := s.tokenByID(ctx, p.Token)
	if err != nil {
		return nil, nil, err
	}
	if !hmac.Equal(mac, p.mac(body, token)) {
		return nil, nil, passInvalid()
	}
	return p, token, nil
}

// tokenByID returns a token that is valid now.
func (s *Service) tokenByID(ctx context.Context, id string) (token *core.Token, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		token, err = r.TokenByID(ctx, id)
		return err
	})
	if fault.Is(err, fault.NotFound) || err == nil && !tokenValid(token, s.now()) {
		return nil, passInvalid()
	}
	return token, err
}

// followed are the links that were followed through this server, until they would not be good any more.
type followed struct {
	mu sync.Mutex
	// links are those links by their nonces.
	links map[string]*pass
}

// follow fails for a link that was followed before.
func (f *followed) follow(link *pass, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := 0
	for nonce, l := range f.links {
		if !now.Before(time.Unix(l.Until, 0)) {
			delete(f.links, nonce)
		} else if l.Token == link.Token {
			own++
		}
	}
	if f.links[link.Nonce] != nil {
		return passInvalid()
	}
	if own >= maxFollowedOfToken {
		return tooManyFollowed(maxFollowedOfToken, "made with one token")
	}
	if len(f.links) >= maxFollowed {
		return tooManyFollowed(maxFollowed, "in all")
	}
	if f.links == nil {
		f.links = map[string]*pass{}
	}
	f.links[link.Nonce] = link
	return nil
}

func tooManyFollowed(limit int, which string) error {
	return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d links to ports were followed within %s, as many as this server takes %s", limit, PortLinkTTL, which).WithRetry(PortLinkTTL)
}
