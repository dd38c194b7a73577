package kube

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"sync"

	stateless "github.com/klauspost/compress/flate"
)

const (
	// maxModels is how many models there are at most that new objects are compared with, maxModel how much of an object is one, in bytes: its end.
	maxModels = 64
	maxModel  = 8 << 10
	// missesPerModel is how many objects must be little like their models before one of them becomes a model. So where all differ, models take an
	// eighth of what the objects would.
	missesPerModel = 8
)

// likeness is an object, kept as what it differs in from another of the same profile: a few hundred bytes in place of thousands. The zero value
// is no object.
type likeness struct {
	model []byte
	diff  string
}

// likenesses has for each profile what others are compared with.
type likenesses struct {
	mu     sync.Mutex
	models map[string]*model
	// strangers is how many objects found no model of their profile, and no room for one, since the last that got it.
	strangers int
}

// model is what the objects of a profile are compared with, and how many in a row were little like it.
type model struct {
	text   []byte
	misses int
}

// keep returns the likeness of an object. Where several in a row are little like the model of their profile, which was edited say, the last
// becomes the model.
func (l *likenesses) keep(profile string, object json.RawMessage) likeness {
	if len(object) == 0 {
		return likeness{}
	}
	l.mu.Lock()
	m := l.models[profile]
	l.mu.Unlock()
	var text []byte
	if m != nil {
		text = m.text
	}
	diff := differ(text, object)
	if l.isModel(m, len(diff) > len(object)/4) {
		text = bytes.Clone(object[max(0, len(object)-maxModel):])
		diff = differ(text, object)
		l.replace(profile, text)
	}
	return likeness{text, diff}
}

// isModel reports whether an object that was compared with m, nil for nothing, is to become the model of its profile.
func (l *likenesses) isModel(m *model, unlike bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m == nil && len(l.models) < maxModels:
		return true
	case m == nil:
		l.strangers++
		return l.strangers%missesPerModel == 0
	case !unlike:
		m.misses = 0
		return false
	}
	m.misses++
	return m.misses%missesPerModel == 0
}

// replace gives a profile a model, in place of any other's where there are too many. Those that are referred to live on.
func (l *likenesses) replace(profile string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.models == nil {
		l.models = map[string]*model{}
	}
	for other := range l.models {
		if l.models[profile] != nil || len(l.models) < maxModels {
			break
		}
		delete(l.models, other)
	}
	l.models[profile] = &model{text: text}
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
	if err := r.(flate.Resetter).Reset(bytes.NewReader([]byte(l.diff)), l.model); err != nil { //nolint:forcetypeassert // flate says so
		return nil
	}
	out := bytes.NewBuffer(make([]byte, 0, len(l.model)+bytes.MinRead)) // It is about as long.
	if _, err := out.ReadFrom(r); err != nil {
		return nil
	}
	return out.Bytes()
}
