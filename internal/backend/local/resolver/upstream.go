package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/miekg/dns"
)

// upstream asks name servers.
type upstream struct {
	servers *servers
	// exchanges are slots.
	exchanges chan struct{}
	log       *slog.Logger
}

func newUpstream(fixed []netip.AddrPort, path string, log *slog.Logger) *upstream {
	return &upstream{servers: &servers{fixed: fixed, path: path, log: log}, exchanges: make(chan struct{}, MaxExchanges), log: log}
}

var errNoServers = errors.New("no name server is known")

// rounds is how often each server is asked: a datagram may get lost.
const rounds = 2

// ask asks one server after the other, until one says that there is something, or that there is not. What they say about their
// own state is no answer.
func (u *upstream) ask(ctx context.Context, q question) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, UpstreamPatience)
	defer cancel()
	list := u.servers.list()
	err := errNoServers
	for range rounds {
		for _, s := range list {
			f, failed := u.askOne(ctx, s, q)
			if failed == nil {
				return f, nil
			}
			if err = failed; ctx.Err() != nil {
				break
			}
		}
	}
	u.log.Debug("no name server gave an answer", "name", q.name, "type", dns.TypeToString[q.typ], "error", err)
	return nil, err
}

func (u *upstream) askOne(ctx context.Context, server netip.AddrPort, q question) (*found, error) {
	select {
	case u.exchanges <- struct{}{}:
		defer func() { <-u.exchanges }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, ServerPatience)
	defer cancel()
	m, err := exchange(ctx, server, q, true)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		m, err = exchange(ctx, server, q, false) // A server that knows no extensions.
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s: answered %s", server, dns.RcodeToString[m.Rcode])
	}
	f, err := believe(m, q)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return f, nil
}
