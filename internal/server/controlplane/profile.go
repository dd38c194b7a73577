package controlplane

import (
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/wire"
)

// profileMessage returns a profile without its spec.
func profileMessage(p *core.Profile, warnings []string) *v1beta2pb.ProfileTemplate {
	return &v1beta2pb.ProfileTemplate{
		Id: p.ID, OrganizationId: p.OrgID, DisplayName: p.DisplayName, Description: p.Description, Labels: p.Labels,
		CreatedAt: wire.Time(p.CreatedAt), UpdatedAt: wire.Time(p.UpdatedAt),
		Etag: control.Etag(p.Meta), Revision: p.Revision, Warnings: warnings,
	}
}

// profileProto returns a profile as gRPC sends it. What its spec clears is not in it.
func profileProto(p *core.Profile, warnings []string) (*v1beta2pb.ProfileTemplate, error) {
	m := profileMessage(p, warnings)
	n, err := tree.ParseJSON(p.Spec.WireJSON())
	if err == nil {
		m.Spec = &v1beta2pb.ProfileSpec{}
		_, err = tree.Decode(n, m.Spec)
	}
	if err != nil {
		return nil, fault.Internalf(err, "the spec of profile %s has no message form", p.ID)
	}
	return m, nil
}

// profileNode returns a profile as REST sends it, with its spec in wire form, nulls included.
func profileNode(p *core.Profile, warnings []string) (*tree.Node, error) {
	n, err := rest.MessageNode(profileMessage(p, warnings))
	if err != nil {
		return nil, err
	}
	return withSpec(n, p)
}

func withSpec(n *tree.Node, p *core.Profile) (*tree.Node, error) {
	text, err := tree.ParseJSON(p.Spec.WireJSON())
	if err != nil {
		return nil, fault.Internalf(err, "the spec of profile %s cannot be rendered", p.ID)
	}
	n.Keys = append(n.Keys, tree.Key{Name: "spec", Value: text})
	return n, nil
}

// ProfileConfiguration returns what a revision of a profile configures, in the form of its REST resource.
func ProfileConfiguration(p *core.Profile) (*tree.Node, error) {
	n, err := rest.MessageNode(&v1beta2pb.ProfileTemplate{DisplayName: p.DisplayName, Description: p.Description, Labels: p.Labels})
	if err != nil {
		return nil, err
	}
	n = rest.Without(n, "id", "organization_id", "etag", "revision", "warnings")
	return withSpec(n, p)
}

// specLayer reads a spec in its message form. Empty lists and maps are unset in it.
func specLayer(m *v1beta2pb.ProfileSpec, at string) (*spec.Layer, error) {
	if m == nil {
		return nil, nil
	}
	n, err := tree.FromMessage(m)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid spec: %v", err)
	}
	return spec.DecodeLayer(n, at)
}

// profileInput returns what a message says about a profile; the spec is separate.
func profileInput(m *v1beta2pb.ProfileTemplate, l *spec.Layer, reason string) control.ProfileInput {
	return control.ProfileInput{
		DisplayName: m.GetDisplayName(), Description: m.GetDescription(), Labels: m.GetLabels(), Spec: l, Reason: reason,
	}
}
