package resolver

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/core/egress"
)

// Translators returns a way to ask the servers of a configuration for the prefixes of the translators (NAT64) on the way. None is an answer,
// too; no answer is an error. What may be asked of a server bounds each.
func Translators(cfg Config) (func(context.Context) ([]netip.Prefix, error), error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	u := newUpstream(cfg.Servers, cfg.ResolvConf, cfg.Logger)
	return func(ctx context.Context) ([]netip.Prefix, error) {
		f, err := u.ask(ctx, question{egress.NAT64Name, dns.TypeAAAA})
		if err != nil {
			return nil, err
		}
		var addrs []netip.Addr
		for _, rr := range f.records {
			if a, ok := address(rr); ok {
				addrs = append(addrs, a)
			}
		}
		return egress.NAT64Of(addrs), nil
	}, nil
}
