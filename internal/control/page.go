package control

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// Page sizes.
const (
	// DefaultPage is what a list of configuration returns when the caller states no size, MaxPage the most it returns.
	DefaultPage = 100
	MaxPage     = store.MaxPage
	// DefaultSandboxPage is that of sandboxes, as published clients expect.
	DefaultSandboxPage = 1000
	// maxPageToken is the longest page token that is looked at, in bytes.
	maxPageToken = 2048
)

// Page asks for a part of a list.
type Page struct {
	// Size 0 is the default; more than the most is the most.
	Size int
	// Token is empty, or what the page before gave.
	Token string
}

// scope is what a page token is bound to: tokens of another organization, another list or other filters are refused.
type scope struct {
	orgID, kind string
	filter      string
}

// sum is what makes a token's text whole. The key is no secret: a token only names a position in a list that its holder
// may read anyway. It keeps tokens opaque and mistakes from being read as positions.
func (c scope) sum(after string) []byte {
	mac := hmac.New(sha256.New, []byte("berm page token 1"))
	for _, part := range []string{c.orgID, c.kind, c.filter, after} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return mac.Sum(nil)[:12]
}

// token returns the opaque form of a position, "" at the end.
func (c scope) token(after string) string {
	if after == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(c.sum(after), after...))
}

// page checks p and returns the store's form of it.
func (c scope) page(p Page, defaultSize int) (store.Page, error) {
	out := store.Page{Size: p.Size}
	switch {
	case p.Size < 0:
		return out, fault.Invalidf(fault.ReasonFieldInvalid, "invalid page").
			WithField("page_size", "%d is negative; 0 asks for the default of %d", p.Size, defaultSize)
	case p.Size == 0:
		out.Size = defaultSize
	case p.Size > MaxPage:
		out.Size = MaxPage
	}
	if p.Token == "" {
		return out, nil
	}
	after, ok := c.open(p.Token)
	if !ok {
		return out, fault.Invalidf(fault.ReasonPageTokenInvalid, "the page token is not one of this list").
			WithField("page_token", "must be the next_page_token of the page before, asked for with the same filters").
			WithHint("start again without page_token")
	}
	out.After = after
	return out, nil
}

// open returns the position of a token, if it is one of this list.
func (c scope) open(token string) (string, bool) {
	if len(token) > maxPageToken {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	size := len(c.sum(""))
	if err != nil || len(raw) <= size || !hmac.Equal(raw[:size], c.sum(string(raw[size:]))) {
		return "", false
	}
	return string(raw[size:]), true
}

// filterText joins filters into the text that a token is bound to.
func filterText(parts ...string) string { return strings.Join(parts, "\x1f") }

// paged cuts a sorted list that is in memory. key names elements uniquely and in order.
func paged[T any](c scope, p Page, all []T, key func(T) string) ([]T, string, error) {
	sp, err := c.page(p, DefaultPage)
	if err != nil {
		return nil, "", err
	}
	from := 0
	for from < len(all) && sp.After != "" && key(all[from]) <= sp.After {
		from++
	}
	rest := all[from:]
	if len(rest) <= sp.Size {
		return rest, "", nil
	}
	return rest[:sp.Size], c.token(key(rest[sp.Size-1])), nil
}
