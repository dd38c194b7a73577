package kube

import (
	"slices"

	"github.com/bermhq/berm/internal/core/egress"
)

// Network says what becomes of egress modes on a cluster.
type Network string

// What may become of them.
const (
	// NetworkRefused: launches with a mode are refused. It is the default.
	NetworkRefused Network = ""
	// NetworkRecorded: the owner of the cluster accepts that modes are recorded and not enforced.
	NetworkRecorded Network = "recorded"
	// NetworkGuard: pods are held to them from within (guardPod).
	NetworkGuard Network = "guard"
	// NetworkPolicies: each sandbox has a NetworkPolicy (policyFor), which the cluster may act on.
	NetworkPolicies Network = "policies"
	// NetworkBoth: both. Scopes are for the policy alone.
	NetworkBoth Network = "guard+policies"
)

// Networks lists those that an owner chooses.
func Networks() []Network {
	return []Network{NetworkRecorded, NetworkGuard, NetworkPolicies, NetworkBoth}
}

// Guards reports whether pods are held to their egress modes from within.
func (n Network) Guards() bool { return n == NetworkGuard || n == NetworkBoth }

// Policies reports whether sandboxes have a NetworkPolicy.
func (n Network) Policies() bool { return n == NetworkPolicies || n == NetworkBoth }

// types are the types of modes that a sandbox can be held to, nil where modes are not looked at.
func (n Network) types() []egress.Type {
	switch {
	case n.Policies():
		return egress.Types()
	case n.Guards():
		return []egress.Type{egress.None, egress.Internet, egress.Allowlist}
	default:
		return nil
	}
}

// features are the types as plans ask for them.
func (n Network) features() []string {
	var out []string
	for _, t := range n.types() {
		out = append(out, "egress:"+string(t))
	}
	return out
}

// egressPolicy returns what a sandbox may reach, as far as pods can be held to it. As on one machine, no mode means no network.
func egressPolicy(in PodInput) (*egress.Policy, error) {
	name, mode := egress.Selected(in.Spec.GetNetwork().GetEgress())
	refuse := func(format string, args ...any) (*egress.Policy, error) {
		return nil, cannotHold().WithField("network.egress.selected", format, args...)
	}
	switch typ := egress.Type(mode.GetType()); {
	case name != "" && mode == nil:
		return refuse("mode %q is not declared", name)
	case typ.Scoped() && !slices.Contains(in.Options.Network.types(), typ):
		return refuse("mode %q is of type %s: which pods that is changes while the sandbox runs, and rules in its pod do not; choose none, internet or an allowlist", name, typ)
	case len(mode.GetDnsNames()) > 0:
		return refuse("mode %q lists dnsNames: a pod asks the resolver of its cluster, which pins no answer to a connection; list cidrs", name)
	}
	return egress.Compile(name, mode, egress.Site{Denied: in.Options.DeniedEgress})
}
