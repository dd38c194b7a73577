package kube

import "github.com/bermhq/berm/internal/core/egress"

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
)

// Networks lists those that an owner chooses.
func Networks() []Network { return []Network{NetworkRecorded, NetworkGuard} }

// Guards reports whether pods are held to their egress modes from within.
func (n Network) Guards() bool { return n == NetworkGuard }

// features are the types of modes that a sandbox can be held to, as plans ask for them; nil where all of them, or none, are taken.
func (n Network) features() []string {
	if !n.Guards() {
		return nil
	}
	var out []string
	for _, t := range []egress.Type{egress.None, egress.Internet, egress.Allowlist} {
		out = append(out, "egress:"+string(t))
	}
	return out
}
