package kube

import (
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend"
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

// What is known of an egress mode on a cluster begins with one of these.
const (
	proven      = "proven: "
	declared    = "declared: "
	unenforced  = "not enforceable here: "
	provenFeat  = "proven:"
	untriedNote = declared + "not tried yet"
	// requireProven is what a profile demands.
	requireProven = "proven"
)

// enforcement says of each type what is known, for a runtime class: the default class is what was tried.
func (b *Backend) enforcement(class string) []backend.Enforcement {
	b.mu.Lock()
	tried := b.tried
	b.mu.Unlock()
	var out []backend.Enforcement
	for _, t := range egress.Types() {
		e := backend.Enforcement{Name: "egress:" + string(t), Works: slices.Contains(b.cfg.Options.Network.types(), t)}
		switch {
		case !e.Works:
			e.Note = unenforced + "rules in a pod do not follow which other pods there are"
		case class != DefaultRuntimeClass:
			e.Note = declared + "only " + DefaultRuntimeClass + " was tried"
		case tried == nil:
			e.Note = untriedNote
		case tried.err != nil:
			e.Note = declared + "the trial failed: " + tried.err.Error()
		case t.Scoped():
			e.Note = declared + "a NetworkPolicy is made; no trial is made of scopes"
		case tried.found[t]:
			e.Note = proven + "tried from a pod when the runner started, next to one without rules"
		default:
			e.Note = unenforced + "in the trial the connection went through: the network plugin does not enforce network policies"
		}
		out = append(out, e)
	}
	return out
}

// isProven reports whether the mode of a sandbox was tried, in its runtime class.
func (b *Backend) isProven(w *backend.Work) bool {
	_, mode := egress.Selected(w.Spec.GetNetwork().GetEgress())
	name := "egress:" + either(mode.GetType(), string(egress.None))
	return slices.ContainsFunc(b.enforcement(either(w.Spec.GetRuntimeClass(), DefaultRuntimeClass)), func(e backend.Enforcement) bool {
		return e.Name == name && strings.HasPrefix(e.Note, proven)
	})
}

// tell adds to Info what is known of networks.
func (b *Backend) tell(info *backend.Info) {
	known := b.cfg.Options.Network.features()
	info.Features = append([]string{backend.FeatureSecrets}, known...)
	if len(known) == 0 {
		return
	}
	for _, class := range info.RuntimeClasses {
		r := backend.Runtime{Name: class, Isolation: info.Isolation, Enforcement: b.enforcement(class)}
		held := 0
		for _, e := range r.Enforcement {
			if strings.HasPrefix(e.Note, proven) && class == DefaultRuntimeClass {
				info.Features = append(info.Features, provenFeat+strings.TrimPrefix(e.Name, "egress:"))
			}
			if e.Works && !strings.HasPrefix(e.Note, unenforced) && !strings.Contains(e.Note, "scopes") {
				held++
			}
		}
		if held == 0 {
			note := unenforced + "its owner chose network policies, and the trial showed that nothing enforces them"
			r.Unenforced = map[string]string{"network.egress.default": note, "network.egress.selected": note, "network.egress.modes": note}
		}
		info.Runtimes = append(info.Runtimes, r)
	}
}
