package cli

import (
	"bytes"
	"testing"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
)

// TestDecision: what is said of a destination names the rule and who wrote it, and what is not known.
func TestDecision(t *testing.T) {
	override := &bermv1.NetworkRule{
		Allow: true, Kind: "name", Path: `network.egress.modes["index"].dnsNames[0]`, Why: "listed: pypi.org", Name: "pypi.org",
		Layer: "override", Object: "binding r1/net", Revision: 2, By: "token:ci",
	}
	modes := &bermv1.ExplainedField{Path: "network.egress.modes", Layer: "override", Object: "binding r1/net", Revision: 2}
	chosen := &bermv1.ExplainedField{Path: "network.egress.default", Layer: "profile", Object: "profile net", Revision: 1}
	for _, c := range []struct {
		d    *bermv1.NetworkDecision
		want string
	}{
		{&bermv1.NetworkDecision{
			Destination: "https://pypi.org/simple", Name: "pypi.org", Port: 443, Protocol: "tcp", Verdict: "allowed", Why: "listed: pypi.org", Rule: override,
			Lookup: &bermv1.NameLookup{Allowed: true, Pins: true}, Mode: "index", Type: "allowlist", ChosenBy: chosen, Modes: modes, Live: true,
			Addresses: []*bermv1.NetworkAddress{{Address: "1.1.1.1", Allowed: true, PinnedFor: "pypi.org", Rule: override}},
		}, `https://pypi.org/simple is allowed: listed: pypi.org

Read as:     name pypi.org, port 443, tcp
Egress mode: index, of type allowlist; chosen by network.egress.default (profile net, revision 1); declared by binding r1/net, revision 2
Decided by:  network.egress.modes["index"].dnsNames[0], binding r1/net, revision 2 by token:ci
Name:        is looked up; the addresses answered can be reached as long as the answer holds

ADDRESS   VERDICT   RULE                                        FROM                                     IS
1.1.1.1   allowed   network.egress.modes["index"].dnsNames[0]   binding r1/net, revision 2 by token:ci   answered for pypi.org
`},
		{&bermv1.NetworkDecision{
			Destination: "0xa9fea9fe", Address: "169.254.169.254", Protocol: "tcp", Note: "0xa9fea9fe is 169.254.169.254", Verdict: "denied", Why: "metadata",
			Rule: &bermv1.NetworkRule{Kind: "ranges", Class: "metadata", Range: "169.254.169.254/32", Layer: "built-in"}, Mode: "web", Type: "internet", LiveNote: "the sandbox has ended",
		}, `0xa9fea9fe is denied: metadata

Read as:     address 169.254.169.254, tcp (0xa9fea9fe is 169.254.169.254)
Egress mode: web, of type internet
Decided by:  metadata (169.254.169.254/32), built-in
Not live:    the sandbox has ended
`},
		{&bermv1.NetworkDecision{Destination: "x\x1b[31m.example", Name: "x.example", Protocol: "tcp", Verdict: "depends", Why: "any"}, `x?[31m.example may be allowed or denied: any

Read as:     name x.example, tcp
Egress mode: none is in force, which means no network
`},
	} {
		var out bytes.Buffer
		s := &session{Stdio: Stdio{Out: &out}}
		s.decision(c.d)
		if out.String() != c.want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
		}
	}
}

func TestNetworkState(t *testing.T) {
	var out bytes.Buffer
	s := &session{Stdio: Stdio{Out: &out}}
	s.networkState(nil)
	s.networkState(&bermv1.NetworkState{})
	s.networkState(&bermv1.NetworkState{
		Addresses: []string{"198.18.0.7"}, Resolvers: []string{"198.18.0.1"},
		Names:             &bermv1.NameCounts{Questions: 5, Answered: 1, Denied: 3, Limited: 1, Filtered: 2, Denials: []*bermv1.DeniedName{{Name: "evil.example", Why: "not listed", Count: 3}}},
		DeniedConnections: []*bermv1.DeniedConnections{{Why: "metadata", Packets: 7}},
	})
	want := `
Network: 198.18.0.7, names from 198.18.0.1
   names: 5 asked, 1 answered, 3 denied, 1 over a limit, 0 failed; 2 addresses filtered out of answers
   DENIED              COUNT   LAST   WHY
   connections         7              metadata
   name evil.example   3              not listed
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
