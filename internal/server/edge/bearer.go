package edge

import (
	"context"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 4096

// Bearer returns who the token of an Authorization header belongs to.
func (c *Chain) Bearer(ctx context.Context, values []string) (core.Principal, error) {
	secret, err := bearer(values)
	if err != nil {
		return core.Principal{}, err
	}
	return c.cfg.Authenticate(ctx, secret)
}

// bearer returns the token of an Authorization header that was given once.
func bearer(values []string) (string, error) {
	switch {
	case len(values) == 0:
		return "", unauthenticated("no token was sent")
	case len(values) > 1:
		return "", unauthenticated("the Authorization header was sent %d times", len(values))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", unauthenticated("the Authorization header is not of the form \"Bearer TOKEN\"")
	}
	if len(token) > MaxToken {
		return "", unauthenticated("the token is longer than %d bytes", MaxToken)
	}
	return token, nil
}

func unauthenticated(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, format, args...).
		WithHint("Send the header \"Authorization: Bearer TOKEN\" with a token from `berm token create`.")
}
