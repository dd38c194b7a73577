package controlplane

import (
	"net/http"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

func (f *Front) createProfile(w http.ResponseWriter, r *http.Request, _ string) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	in, err := NewProfile(n)
	if err != nil {
		return err
	}
	if in.Reason, err = rest.Reason(r); err != nil {
		return err
	}
	p, err := f.control.CreateProfile(r.Context(), edge.Principal(r.Context()), in)
	if err != nil {
		return err
	}
	return answerProfile(w, p, nil)
}

// NewProfile reads the body of a POST: a whole profile.
func NewProfile(n *tree.Node) (control.ProfileInput, error) {
	wrong := &rest.Problems{}
	m := &v1beta2pb.CreateProfileTemplateRequest{}
	e := rest.Unwrap(n, m, "profile_template", "spec", wrong)
	e.OutputOnly(m.GetProfileTemplate().ProtoReflect().Descriptor(), wrong)
	layer := layerOf(e, wrong)
	if err := wrong.Fault(); err != nil {
		return control.ProfileInput{}, err
	}
	if m.GetProfileTemplate().GetEtag() != "" {
		return control.ProfileInput{}, fault.Invalidf(fault.ReasonFieldOutputOnly, "invalid request body").WithField("profile_template.etag", "belongs to updates: a new profile has no state yet")
	}
	return profileInput(m.GetProfileTemplate(), layer, ""), nil
}

func (f *Front) getProfile(w http.ResponseWriter, r *http.Request, id string) error {
	if err := plain(r); err != nil {
		return err
	}
	p, err := f.control.GetProfile(r.Context(), edge.Principal(r.Context()), id)
	if err != nil {
		return err
	}
	return answerProfile(w, p, nil)
}

func (f *Front) listProfiles(w http.ResponseWriter, r *http.Request, _ string) error {
	m := &v1beta2pb.ListProfileTemplatesRequest{}
	if err := rest.List(r, m); err != nil {
		return err
	}
	list, next, err := f.control.ListProfiles(r.Context(), edge.Principal(r.Context()), profileSelection(m), pageFrom(m))
	if err != nil {
		return err
	}
	return rest.WriteList(w, "profileTemplates", list, next, func(p *core.Profile) (*tree.Node, error) { return profileNode(p, nil) })
}

func (f *Front) updateProfile(w http.ResponseWriter, r *http.Request, id string) error {
	query, err := rest.Query(r, "update_mask")
	if err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	patch, err := decodeProfilePatch(n, query, id)
	if err != nil {
		return err
	}
	st, err := stateOf(r, patch.Etag)
	if err != nil {
		return err
	}
	patch.Etag, patch.Profile.Reason = st.etag, st.reason
	p, warnings, err := f.control.UpdateProfile(r.Context(), edge.Principal(r.Context()), id, *patch)
	if err != nil {
		return err
	}
	return answerProfile(w, p, warnings)
}

// decodeProfilePatch reads the body of a PATCH. id is the one in the path, which a body may repeat.
func decodeProfilePatch(n *tree.Node, query map[string]string, id string) (*control.ProfilePatch, error) {
	wrong := &rest.Problems{}
	m := &v1beta2pb.UpdateProfileTemplateRequest{}
	e := rest.Unwrap(n, m, "profile_template", "spec", wrong)
	if m.GetId() != "" && m.GetId() != id {
		wrong.Add(n.Get("id"), "id", "is %.80q in the body and %.80q in the path; leave it out of the body", m.GetId(), id)
	}
	md := m.GetProfileTemplate().ProtoReflect().Descriptor()
	layer := layerOf(e, wrong)
	mask := e.MaskPaths(query, control.ProfilePaths(), md, func() []string {
		isMap := func(string) bool { return true }
		paths := PresentPaths(rest.Without(e.Object, "spec", "etag"), md, "", isMap)
		return append(paths, specPaths(e.Object.Get("spec"), layer)...)
	}, wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	return &control.ProfilePatch{Mask: mask, Profile: profileInput(m.GetProfileTemplate(), layer, ""), Etag: m.GetProfileTemplate().GetEtag()}, nil
}

func (f *Front) deleteProfile(w http.ResponseWriter, r *http.Request, id string) error {
	query, err := rest.Query(r, "etag")
	if err != nil {
		return err
	}
	if err := rest.NoBody(r); err != nil {
		return err
	}
	st, err := stateOf(r, query["etag"])
	if err != nil {
		return err
	}
	if err := f.control.DeleteProfile(r.Context(), edge.Principal(r.Context()), id, control.DeleteOptions{Etag: st.etag, Reason: st.reason}); err != nil {
		return err
	}
	rest.WriteJSON(w, []byte("{}"))
	return nil
}

func answerProfile(w http.ResponseWriter, p *core.Profile, warnings []string) error {
	n, err := profileNode(p, warnings)
	if err != nil {
		return err
	}
	return rest.WriteObject(w, n)
}

// layerOf reads the spec of a profile, nil when there is none.
func layerOf(e *rest.Envelope, wrong *rest.Problems) *spec.Layer {
	n := e.Object.Get("spec")
	if n == nil {
		return nil
	}
	l, err := spec.DecodeLayer(n, tree.Join(e.Name, "spec"))
	wrong.Merge(err)
	return l
}

// plain refuses a body and query parameters.
func plain(r *http.Request) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	return rest.NoBody(r)
}

// state is what the headers of a write say.
type state struct{ etag, reason string }

func stateOf(r *http.Request, bodyEtag string) (state, error) {
	etag, err := rest.Etag(r, bodyEtag)
	if err != nil {
		return state{}, err
	}
	reason, err := rest.Reason(r)
	return state{etag: etag, reason: reason}, err
}
