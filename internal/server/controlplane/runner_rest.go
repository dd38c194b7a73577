package controlplane

import (
	"net/http"
	"strconv"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

func (f *Front) createRunner(w http.ResponseWriter, r *http.Request, _ string) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	in, err := NewRunner(n)
	if err != nil {
		return err
	}
	if in.Reason, err = rest.Reason(r); err != nil {
		return err
	}
	v, warnings, err := f.control.CreateRunner(r.Context(), edge.Principal(r.Context()), in)
	if err != nil {
		return err
	}
	return f.answerRunner(w, v, warnings)
}

// NewRunner reads the body of a POST: a whole runner.
func NewRunner(n *tree.Node) (control.RunnerInput, error) {
	wrong := &rest.Problems{}
	m := &v1beta2pb.CreateManagedRunnerRequest{}
	e := rest.Unwrap(n, m, "runner", "", wrong)
	e.OutputOnly(m.GetRunner().ProtoReflect().Descriptor(), wrong)
	if m.GetRunner().GetEtag() != "" {
		wrong.Refuse(nil, "runner.etag", "belongs to updates: a new runner has no state yet")
	}
	in := runnerInput(m.GetRunner(), wrong)
	identify(&in, m.GetRunnerId(), wrong)
	return in, wrong.Fault()
}

func (f *Front) getRunner(w http.ResponseWriter, r *http.Request, id string) error {
	if err := plain(r); err != nil {
		return err
	}
	v, err := f.control.GetRunner(r.Context(), edge.Principal(r.Context()), id)
	if err != nil {
		return err
	}
	return f.answerRunner(w, v, nil)
}

func (f *Front) listRunners(w http.ResponseWriter, r *http.Request, _ string) error {
	m := &v1beta2pb.ListRunnersRequest{}
	if err := rest.List(r, m); err != nil {
		return err
	}
	filter, err := runnerSelection(m)
	if err != nil {
		return err
	}
	list, next, err := f.control.ListRunners(r.Context(), edge.Principal(r.Context()), filter, pageFrom(m))
	if err != nil {
		return err
	}
	return rest.WriteList(w, "runners", list, next, func(v *control.RunnerView) (*tree.Node, error) { return f.runnerNode(v, nil) })
}

func (f *Front) updateRunner(w http.ResponseWriter, r *http.Request, id string) error {
	query, err := rest.Query(r, "update_mask")
	if err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	patch, err := decodeRunnerPatch(n, query, id)
	if err != nil {
		return err
	}
	st, err := stateOf(r, patch.Etag)
	if err != nil {
		return err
	}
	patch.Etag, patch.Runner.Reason = st.etag, st.reason
	v, warnings, err := f.control.UpdateRunner(r.Context(), edge.Principal(r.Context()), id, *patch)
	if err != nil {
		return err
	}
	return f.answerRunner(w, v, warnings)
}

// decodeRunnerPatch reads the body of a PATCH. id is the one in the path, which a body may repeat.
func decodeRunnerPatch(n *tree.Node, query map[string]string, id string) (*control.RunnerPatch, error) {
	wrong := &rest.Problems{}
	m := &v1beta2pb.UpdateManagedRunnerRequest{}
	e := rest.Unwrap(n, m, "runner", "", wrong)
	if m.GetId() != "" && m.GetId() != id {
		wrong.Add(n.Get("id"), "id", "is %.80q in the body and %.80q in the path; leave it out of the body", m.GetId(), id)
	}
	md := m.GetRunner().ProtoReflect().Descriptor()
	mask := e.MaskPaths(query, control.RunnerPaths(), md, func() []string {
		return PresentPaths(rest.Without(e.Object, "etag"), md, "", runnerLeaf)
	}, wrong)
	in := runnerInput(m.GetRunner(), wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	return &control.RunnerPatch{Mask: mask, Runner: in, Etag: m.GetRunner().GetEtag()}, nil
}

func (f *Front) deleteRunner(w http.ResponseWriter, r *http.Request, id string) error {
	query, err := rest.Query(r, "etag", "force")
	if err != nil {
		return err
	}
	if err := rest.NoBody(r); err != nil {
		return err
	}
	force := false
	if text, given := query["force"]; given {
		if force, err = strconv.ParseBool(text); err != nil {
			return fault.Invalidf(fault.ReasonFieldInvalid, "invalid query parameters").WithField("force", "%.40q is neither true nor false", text)
		}
	}
	st, err := stateOf(r, query["etag"])
	if err != nil {
		return err
	}
	if err := f.control.DeleteRunner(r.Context(), edge.Principal(r.Context()), id, control.DeleteOptions{Etag: st.etag, Force: force, Reason: st.reason}); err != nil {
		return err
	}
	rest.WriteJSON(w, []byte("{}"))
	return nil
}

func (f *Front) applyUpdate(w http.ResponseWriter, r *http.Request, id string) error {
	if _, err := rest.Query(r); err != nil {
		return err
	}
	n, err := rest.ParseBody(r)
	if err != nil {
		return err
	}
	m := &v1beta2pb.ApplyManagedRunnerUpdateRequest{}
	if _, err := tree.Decode(n, m); err != nil {
		return err
	}
	if m.GetId() != "" && m.GetId() != id {
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid request body").
			WithField("id", "is %.80q in the body and %.80q in the path; leave it out of the body", m.GetId(), id)
	}
	updated, err := f.messageOr(f.control.ApplyRunnerUpdate(r.Context(), edge.Principal(r.Context()), id))
	if err != nil {
		return err
	}
	if n, err = rest.MessageNode(updated); err != nil {
		return err
	}
	return rest.WriteObject(w, n)
}

func (f *Front) answerRunner(w http.ResponseWriter, v *control.RunnerView, warnings []string) error {
	n, err := f.runnerNode(v, warnings)
	if err != nil {
		return err
	}
	return rest.WriteObject(w, n)
}
