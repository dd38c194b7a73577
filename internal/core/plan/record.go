package plan

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// recordVersion is that of the stored form. A reader refuses another one rather than guess.
const recordVersion = 2

// Record returns the stored form of a decision: everything that `berm explain` needs, for as long as the sandbox is kept,
// whatever becomes of the objects that it was decided from and of the code that decided. It holds each layer once; a field
// refers to layers by their position.
//
// It is written by hand because it is on the path of every launch, and the layers below the request are written once for
// each binding.
func (p *Plan) Record() json.RawMessage {
	b := make([]byte, 0, len(p.stack.recorded)+len(p.stack.extra)+len(p.stack.bounds)+2*len(p.specJSON)+2048)
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, recordVersion, 10)
	b = appendText(b, "runner", p.Runner.Runner.RunnerID)
	b = appendText(b, "profile", p.Binding.Name)
	b = append(b, `,"layers":[`...)
	b = append(b, p.stack.recorded...)
	b = append(b, ',')
	b = appendLayer(b, &p.RequestLayer)
	b = append(b, `],"extra":[`...)
	b = append(b, p.stack.extra...)
	b = append(b, `],"fields":[`...)
	b = p.appendFields(b)
	b = append(b, `],"bounds":[`...)
	b = append(b, p.stack.bounds...)
	b = append(b, `],"spec":`...)
	b = append(b, p.specJSON...)
	b = appendText(b, "digest", p.Digest)
	b = append(b, `,"candidates":[`...)
	listed := p.Candidates[:min(len(p.Candidates), MaxRecorded)]
	for i := range listed {
		b = comma(b, i)
		b = appendCandidate(b, &listed[i])
	}
	b = append(b, ']')
	b = appendInt(b, "omitted", int64(p.Omitted+len(p.Candidates)-len(listed)))
	b = appendSteps(b, p.Steps)
	b = append(b, `,"refs":[`...)
	for i, r := range p.Refs {
		b = comma(b, i)
		b = append(b, `{"kind":`...)
		b = tree.AppendString(b, r.Kind)
		b = appendText(b, "id", r.ID)
		b = appendInt(b, "revision", int64(r.Revision))
		b = append(b, '}')
	}
	b = append(b, `],"reserve":{"sandboxes":`...)
	b = strconv.AppendInt(b, p.Reserve.Sandboxes, 10)
	b = appendInt(b, "cpuMillis", p.Reserve.CPUMillis)
	b = appendInt(b, "memoryBytes", p.Reserve.MemoryBytes)
	b = appendInt(b, "gpus", p.Reserve.GPUs)
	b = append(b, '}')
	b = appendInt(b, "lifetimeSeconds", int64(p.LifetimeSeconds))
	b = appendText(b, "egressMode", p.EgressMode)
	b = appendText(b, "ingressMode", p.IngressMode)
	return append(b, '}')
}

// appendFields writes each field as [path, owner, shadowed, …]: positions in layers, the newest shadowed layer first.
func (p *Plan) appendFields(b []byte) []byte {
	at := func(o *resolve.Origin) int64 { return int64(p.Resolved.Position(o)) }
	values := p.Resolved.Fields()
	for i := range values {
		b = comma(b, i)
		b = append(b, '[')
		b = tree.AppendString(b, values[i].Path())
		b = append(b, ',')
		b = strconv.AppendInt(b, at(values[i].Origin), 10)
		for _, s := range values[i].Shadowed {
			b = append(b, ',')
			b = strconv.AppendInt(b, at(s.Origin), 10)
		}
		b = append(b, ']')
	}
	return b
}

func appendLayers(b []byte, inputs []resolve.Input) []byte {
	for i := range inputs {
		b = comma(b, i)
		b = appendLayer(b, &inputs[i])
	}
	return b
}

func appendLayer(b []byte, in *resolve.Input) []byte {
	b = append(b, '{')
	b = appendOrigin(b, &in.Origin)
	b = appendText(b, "id", in.Origin.ID)
	b = appendText(b, "by", in.Origin.By)
	b = appendText(b, "reason", in.Origin.Reason)
	if !in.Origin.At.IsZero() {
		b = appendText(b, "at", in.Origin.At.UTC().Format(time.RFC3339Nano))
	}
	b = append(b, `,"spec":`...)
	if in.Layer.IsEmpty() {
		return append(b, "{}}"...)
	}
	return append(append(b, in.Layer.JSON()...), '}')
}

func appendOrigin(b []byte, o *resolve.Origin) []byte {
	b = append(b, `"layer":`...)
	b = tree.AppendString(b, o.Layer.String())
	b = appendText(b, "object", o.Object)
	return appendInt(b, "revision", int64(o.Revision))
}

// appendBounds writes the guardrails as they hold together, each with its statements by the position of their layers: those of
// the fold first, then the request's, then the extra ones. inputs and extra are how many there are.
func appendBounds(b []byte, l *guard.Limits, inputs, extra int) []byte {
	at := func(t guard.Term) int64 {
		if t.Place < extra { // guard meets the extra ones first
			return int64(inputs + 1 + t.Place)
		}
		return int64(t.Place - extra)
	}
	places := func(name string, terms []guard.Term) {
		if len(terms) == 0 {
			return
		}
		b = append(b, `,"`...)
		b = append(b, name...)
		b = append(b, `":[`...)
		for i, t := range terms {
			b = comma(b, i)
			b = strconv.AppendInt(b, at(t), 10)
		}
		b = append(b, ']')
	}
	for i, bound := range l.Bounds() {
		e := bound.Effect()
		b = comma(b, i)
		b = append(b, `{"path":`...)
		b = tree.AppendString(b, bound.Field.Path)
		b = append(b, `,"value":`...)
		b = append(b, e.Value...)
		b = append(b, `,"owner":`...)
		b = strconv.AppendInt(b, at(e.Owner), 10)
		places("combined", e.Combined)
		places("shadowed", e.Shadowed)
		b = append(b, '}')
	}
	return b
}

func appendCandidate(b []byte, c *Candidate) []byte {
	b = append(b, `{"runner":`...)
	b = tree.AppendString(b, c.RunnerID)
	b = appendText(b, "profile", c.ProfileName)
	if c.Chosen {
		b = append(b, `,"chosen":true`...)
	}
	if c.Score != 0 {
		b = append(b, `,"score":`...)
		b = strconv.AppendFloat(b, c.Score, 'g', 6, 64)
	}
	if len(c.Reasons) > 0 {
		b = append(b, `,"reasons":[`...)
		for i := range c.Reasons {
			b = comma(b, i)
			b = appendReason(b, &c.Reasons[i])
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendSteps(b []byte, steps []Step) []byte {
	if len(steps) == 0 {
		return b
	}
	b = append(b, `,"steps":[`...)
	for i, s := range steps {
		b = comma(b, i)
		b = append(b, `{"outcome":`...)
		b = tree.AppendString(b, string(s.Outcome))
		b = appendText(b, "group", s.Group)
		b = appendText(b, "message", s.Message)
		b = appendInt(b, "waitedMillis", s.Waited.Milliseconds())
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendReason(b []byte, r *Reason) []byte {
	b = append(b, `{"code":`...)
	b = tree.AppendString(b, string(r.Code))
	if r.Message != place.Text(r.Code) {
		b = appendText(b, "message", r.Message)
	}
	b = appendText(b, "path", r.Path)
	b = appendText(b, "value", r.Value)
	b = appendText(b, "limit", r.Limit)
	for _, o := range [...]struct {
		name   string
		origin *resolve.Origin
	}{{"valueOrigin", r.ValueOrigin}, {"limitOrigin", r.LimitOrigin}} {
		if o.origin != nil {
			b = append(b, `,"`...)
			b = append(b, o.name...)
			b = append(b, `":{`...)
			b = append(appendOrigin(b, o.origin), '}')
		}
	}
	return append(b, '}')
}

// appendText and appendInt write a member behind another one, unless it is empty.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return tree.AppendString(b, value)
}

func appendInt(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, value, 10)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// leafAt returns what a stored layer says about a path: the field itself, an entry that it adds to a map, or the null for a
// whole open object that covers a key.
func leafAt(l *spec.Layer, path string) (spec.Leaf, bool) {
	f, key, ok := spec.ByPath(path)
	if !ok {
		return spec.Leaf{}, false
	}
	if leaf, ok := l.At(f, key); ok || key == "" {
		return leaf, ok
	}
	whole, ok := l.At(f, "")
	for _, e := range whole.Entries() {
		if e.Key == key {
			return e, true
		}
	}
	return spec.Leaf{Field: f, Key: key, State: spec.Cleared}, ok && whole.State == spec.Cleared
}
