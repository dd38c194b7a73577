package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

// explainNetwork answers `berm explain --network`.
func (s *session) explainNetwork(ctx context.Context, c *client.Client, id, destination string) error {
	s.flags = map[string]string{"destination": "--network"}
	d, err := c.Explain().ExplainNetwork(ctx, &bermv1.ExplainNetworkRequest{SandboxId: id, Destination: destination})
	if err != nil {
		return err
	}
	if s.output == "json" || s.output == "yaml" {
		raw, err := toJSON(d)
		if err != nil {
			return err
		}
		return s.emitJSON(raw)
	}
	s.decision(d)
	return nil
}

// decision says in words what a policy makes of a destination, and which rule of which layer says so.
func (s *session) decision(d *bermv1.NetworkDecision) {
	verdict := map[string]string{"allowed": "is allowed", "denied": "is denied", "depends": "may be allowed or denied"}[d.GetVerdict()]
	fmt.Fprintf(s.Out, "%s %s: %s\n\n", clean(d.GetDestination()), verdict, clean(d.GetWhy()))
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.Out, "%-12s %s\n", name+":", clean(value))
		}
	}
	line("Read as", targetText(d))
	line("Egress mode", modeText(d))
	if r := d.GetRule(); r != nil {
		line("Decided by", ruleText(r)+", "+ruleOrigin(r))
	}
	if l := d.GetLookup(); l != nil {
		line("Name", lookupText(l))
	}
	if !d.GetLive() {
		line("Not live", d.GetLiveNote())
	}
	if len(d.GetAddresses()) == 0 {
		return
	}
	fmt.Fprintln(s.Out)
	t := table{head: []string{"ADDRESS", "VERDICT", "RULE", "FROM", "IS"}, wide: []string{"WHY"}}
	for _, a := range d.GetAddresses() {
		verdict := "denied"
		if a.GetAllowed() {
			verdict = "allowed"
		}
		if d.GetAddress() != "" { // It is the destination itself.
			verdict = d.GetVerdict()
		}
		is := ""
		switch {
		case a.GetMember() != "":
			is = "sandbox " + a.GetMember()
		case a.GetPinnedFor() != "":
			is = "answered for " + a.GetPinnedFor()
		}
		t.rows = append(t.rows, []string{a.GetAddress(), verdict, ruleText(a.GetRule()), ruleOrigin(a.GetRule()), is, a.GetRule().GetWhy()})
	}
	s.table(t)
}

func targetText(d *bermv1.NetworkDecision) string {
	text := "address " + d.GetAddress()
	if d.GetName() != "" {
		text = "name " + d.GetName()
	}
	if d.GetPort() != 0 {
		text += ", port " + strconv.Itoa(int(d.GetPort()))
	}
	text += ", " + d.GetProtocol()
	if d.GetNote() != "" {
		text += " (" + d.GetNote() + ")"
	}
	return text
}

func modeText(d *bermv1.NetworkDecision) string {
	if d.GetMode() == "" {
		return "none is in force, which means no network"
	}
	text := fmt.Sprintf("%s, of type %s", d.GetMode(), d.GetType())
	if by := d.GetChosenBy(); by != nil {
		text += fmt.Sprintf("; chosen by %s (%s)", by.GetPath(), originText(&bermv1.Origin{Object: by.GetObject(), Revision: by.GetRevision()}))
	}
	if m := d.GetModes(); m != nil {
		text += fmt.Sprintf("; declared by %s", originText(&bermv1.Origin{Object: m.GetObject(), Revision: m.GetRevision()}))
	}
	return text
}

// ruleText names a rule: the item of the spec that it is, or the class of destinations that it closes.
func ruleText(r *bermv1.NetworkRule) string {
	text := r.GetPath()
	if text == "" {
		if text = r.GetClass(); text == "" {
			text = r.GetKind()
		}
	}
	if r.GetRange() != "" && !strings.Contains(text, r.GetRange()) {
		text += " (" + r.GetRange() + ")"
	}
	return text
}

func ruleOrigin(r *bermv1.NetworkRule) string {
	if r.GetObject() == "" {
		return r.GetLayer()
	}
	text := originText(&bermv1.Origin{Object: r.GetObject(), Revision: r.GetRevision()})
	if r.GetBy() != "" {
		text += " by " + r.GetBy()
	}
	return text
}

func lookupText(l *bermv1.NameLookup) string {
	switch {
	case l.GetScope():
		return "is that of a sandbox, or of nothing: " + l.GetWhy()
	case !l.GetAllowed():
		return "is not looked up: " + l.GetWhy()
	case l.GetPins():
		return "is looked up; the addresses answered can be reached as long as the answer holds"
	}
	return "is looked up: " + l.GetWhy()
}

// networkState lists what is known of the network of a sandbox, as far as there is anything to say.
func (s *session) networkState(n *bermv1.NetworkState) {
	if n == nil || len(n.GetAddresses()) == 0 {
		return
	}
	fmt.Fprintf(s.Out, "\nNetwork: %s, names from %s\n", strings.Join(n.GetAddresses(), ", "), strings.Join(n.GetResolvers(), ", "))
	if c := n.GetNames(); c.GetQuestions() > 0 || c.GetLimited() > 0 {
		fmt.Fprintf(s.Out, "   names: %d asked, %d answered, %d denied, %d over a limit, %d failed; %d addresses filtered out of answers\n",
			c.GetQuestions(), c.GetAnswered(), c.GetDenied(), c.GetLimited(), c.GetFailed(), c.GetFiltered())
	}
	t := table{head: []string{"", "DENIED", "COUNT", "LAST", "WHY"}}
	for _, d := range n.GetDeniedConnections() {
		t.rows = append(t.rows, []string{"", "connections", strconv.FormatInt(d.GetPackets(), 10), "", d.GetWhy()})
	}
	for _, d := range n.GetNames().GetDenials() {
		t.rows = append(t.rows, []string{"", "name " + d.GetName(), strconv.FormatInt(d.GetCount(), 10), clock(d.GetLast()), d.GetWhy()})
	}
	if len(t.rows) > 0 {
		s.table(t)
	}
}
