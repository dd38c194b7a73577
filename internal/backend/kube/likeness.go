package kube

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"sync"

	stateless "github.com/klauspost/compress/flate"
)

// maxModels is how many models there are at most that new objects are compared with.
const maxModels = 64

// likeness is an object, kept as what it differs in from another of the same profile: a few hundred bytes in place of thousands. The zero value
// is no object.
type likeness struct {
	model []byte
	diff  string
}

// likenesses has for each profile the object that others are compared with.
type likenesses struct {
	mu     sync.Mutex
	models map[string][]byte
}

// keep returns the likeness of an object. One that is little like the model of its profile, which was edited say, becomes the model.
func (l *likenesses) keep(profile string, object json.RawMessage) likeness {
	if len(object) == 0 {
		return likeness{}
	}
	l.mu.Lock()
	model := l.models[profile]
	l.mu.Unlock()
	diff := differ(model, object)
	if model == nil || len(diff) > len(object)/4 {
		model = bytes.Clone(object)
		diff = differ(model, object)
		l.mu.Lock()
		if l.models == nil || len(l.models) >= maxModels {
			l.models = map[string][]byte{} // Those that are referred to live on.
		}
		l.models[profile] = model
		l.mu.Unlock()
	}
	return likeness{model, diff}
}

func differ(model, object []byte) string {
	var out bytes.Buffer
	_ = stateless.StatelessDeflate(&out, object, true, model) // A buffer takes everything.
	return out.String()
}

// differences are readers of them: each is forty times as large as what it reads.
var differences sync.Pool //nolint:gochecknoglobals // a pool is for all

// object returns what was kept, nil for none.
func (l likeness) object() json.RawMessage {
	if l.diff == "" {
		return nil
	}
	r, _ := differences.Get().(io.Reader)
	if r == nil {
		r = flate.NewReader(nil)
	}
	defer differences.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader([]byte(l.diff)), l.model[max(0, len(l.model)-maxModel):]); err != nil { //nolint:forcetypeassert // flate says so
		return nil
	}
	out := bytes.NewBuffer(make([]byte, 0, len(l.model)+bytes.MinRead)) // It is about as long.
	if _, err := out.ReadFrom(r); err != nil {
		return nil
	}
	return out.Bytes()
}

// maxModel is how much of a model counts, in bytes: its end.
const maxModel = 8 << 10
