package plan

import (
	"encoding/json"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Record is a decision as it was stored.
type Record struct {
	RunnerID, ProfileName string
	// Layers are all inputs of the fold, lowest first, the request's last.
	Layers []resolve.Input
	// Extra is what the runner added to the guardrails alone.
	Extra []resolve.Input
	// Bounds are the guardrails in force, the meet of all layers; those in the resolved spec are the highest layer's.
	Bounds []Bound
	// Spec is the resolved spec as canonical JSON, Digest identifies it.
	Spec            json.RawMessage
	Digest          string
	Candidates      []Candidate
	Omitted         int
	Steps           []Step
	Refs            []Ref
	Reserve         core.Amounts
	LifetimeSeconds int32
	EgressMode      string
	IngressMode     string

	values []resolve.Value
}

// Resolved returns the fields of the resolved spec with owner and shadowed values, as they were when the sandbox was
// launched: nothing is folded again.
func (r *Record) Resolved() []resolve.Value { return r.values }

// stored is the JSON form.
type stored struct {
	Version         int               `json:"version"`
	Runner          string            `json:"runner"`
	Profile         string            `json:"profile"`
	Layers          []storedLayer     `json:"layers"`
	Extra           []storedLayer     `json:"extra"`
	Fields          [][]any           `json:"fields"`
	Bounds          []storedBound     `json:"bounds"`
	Spec            json.RawMessage   `json:"spec"`
	Digest          string            `json:"digest"`
	Candidates      []storedCandidate `json:"candidates"`
	Omitted         int               `json:"omitted"`
	Steps           []storedStep      `json:"steps"`
	Refs            []Ref             `json:"refs"`
	Reserve         core.Amounts      `json:"reserve"`
	LifetimeSeconds int32             `json:"lifetimeSeconds"`
	EgressMode      string            `json:"egressMode"`
	IngressMode     string            `json:"ingressMode"`
}

type storedBound struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
	// Owner, Combined and Shadowed are positions in Layers, and behind those in Extra.
	Owner    int   `json:"owner"`
	Combined []int `json:"combined"`
	Shadowed []int `json:"shadowed"`
}

type storedOrigin struct {
	Layer    string `json:"layer"`
	Object   string `json:"object"`
	Revision int32  `json:"revision"`
}

type storedLayer struct {
	storedOrigin
	ID     string          `json:"id"`
	By     string          `json:"by"`
	Reason string          `json:"reason"`
	At     time.Time       `json:"at"`
	Spec   json.RawMessage `json:"spec"`
}

type storedCandidate struct {
	Runner  string         `json:"runner"`
	Profile string         `json:"profile"`
	Chosen  bool           `json:"chosen"`
	Score   float64        `json:"score"`
	Reasons []storedReason `json:"reasons"`
}

type storedStep struct {
	Group        string  `json:"group"`
	Outcome      Outcome `json:"outcome"`
	Message      string  `json:"message"`
	WaitedMillis int64   `json:"waitedMillis"`
}

type storedReason struct {
	Code        place.Code    `json:"code"`
	Message     string        `json:"message"`
	Path        string        `json:"path"`
	Value       string        `json:"value"`
	Limit       string        `json:"limit"`
	ValueOrigin *storedOrigin `json:"valueOrigin"`
	LimitOrigin *storedOrigin `json:"limitOrigin"`
}

// ParseRecord reads what Plan.Record wrote. The error is an Internal fault: the text comes from our own store.
func ParseRecord(text []byte) (*Record, error) {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fault.Internalf(err, "read a stored decision")
	}
	if s.Version != recordVersion {
		return nil, fault.Internalf(nil, "a stored decision has version %d, this program reads %d", s.Version, recordVersion)
	}
	r := &Record{
		RunnerID: s.Runner, ProfileName: s.Profile, Spec: s.Spec, Digest: s.Digest, Omitted: s.Omitted, Refs: s.Refs, Reserve: s.Reserve,
		LifetimeSeconds: s.LifetimeSeconds, EgressMode: s.EgressMode, IngressMode: s.IngressMode,
	}
	var err error
	if r.Layers, err = parseLayers(s.Layers); err != nil {
		return nil, err
	}
	if r.Extra, err = parseLayers(s.Extra); err != nil {
		return nil, err
	}
	for _, f := range s.Fields {
		v, ok := r.value(f)
		if !ok {
			return nil, fault.Internalf(nil, "a stored decision has the field %v, which its layers do not have", f)
		}
		r.values = append(r.values, v)
	}
	for i := range s.Bounds {
		b, ok := r.bound(&s.Bounds[i])
		if !ok {
			return nil, fault.Internalf(nil, "a stored decision has the guardrail %s, which its layers do not have", s.Bounds[i].Path)
		}
		r.Bounds = append(r.Bounds, b)
	}
	for _, c := range s.Candidates {
		r.Candidates = append(r.Candidates, c.candidate())
	}
	for _, st := range s.Steps {
		r.Steps = append(r.Steps, Step{Group: st.Group, Outcome: st.Outcome, Message: st.Message, Waited: time.Duration(st.WaitedMillis) * time.Millisecond})
	}
	return r, nil
}

func parseLayers(stored []storedLayer) ([]resolve.Input, error) {
	var out []resolve.Input
	for i := range stored {
		l, err := spec.ParseStored(stored[i].Spec)
		if err != nil {
			return nil, fault.Internalf(err, "read layer %d of a stored decision", i)
		}
		o := stored[i].origin()
		o.ID, o.By, o.At, o.Reason = stored[i].ID, stored[i].By, stored[i].At, stored[i].Reason
		out = append(out, resolve.Input{Origin: *o, Layer: l})
	}
	return out, nil
}

// value reads one field: path, owner, shadowed layers.
func (r *Record) value(f []any) (resolve.Value, bool) {
	if len(f) < 2 {
		return resolve.Value{}, false
	}
	path, ok := f[0].(string)
	if !ok {
		return resolve.Value{}, false
	}
	var v resolve.Value
	for i, position := range f[1:] {
		n, ok := position.(float64)
		if !ok || n < 0 || int(n) >= len(r.Layers) {
			return resolve.Value{}, false
		}
		in := &r.Layers[int(n)]
		leaf, ok := leafAt(in.Layer, path)
		if !ok {
			return resolve.Value{}, false
		}
		if i == 0 {
			v.Leaf, v.Origin = &leaf, &in.Origin
			continue
		}
		v.Shadowed = append(v.Shadowed, resolve.Shadow{Leaf: &leaf, Origin: &in.Origin})
	}
	return v, true
}

func (o *storedOrigin) origin() *resolve.Origin {
	if o == nil {
		return nil
	}
	layer, _ := resolve.ParseLayer(o.Layer)
	return &resolve.Origin{Layer: layer, Object: o.Object, Revision: o.Revision}
}

func (c *storedCandidate) candidate() Candidate {
	out := Candidate{RunnerID: c.Runner, ProfileName: c.Profile, Chosen: c.Chosen, Score: c.Score}
	for _, r := range c.Reasons {
		if r.Message == "" {
			r.Message = place.Text(r.Code)
		}
		out.Reasons = append(out.Reasons, Reason{
			Code: r.Code, Message: r.Message, Path: r.Path, Value: r.Value, Limit: r.Limit,
			ValueOrigin: r.ValueOrigin.origin(), LimitOrigin: r.LimitOrigin.origin(),
		})
	}
	return out
}
