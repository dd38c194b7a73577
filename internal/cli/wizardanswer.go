package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/spec"
)

// statedAnswer is the answer that says of a field what a layer states.
func statedAnswer(l *spec.Layer, f *spec.Field) string {
	var keys []string
	for _, leaf := range l.Leaves() {
		switch {
		case leaf.Field != f:
		case leaf.Key != "":
			keys = append(keys, jsonText(leaf.Key)+":"+string(leaf.JSON()))
		case leaf.State == spec.Cleared:
			return clearedAnswer
		default:
			return answerTo(f, leaf.JSON())
		}
	}
	if keys == nil {
		return ""
	}
	return "{" + strings.Join(keys, ", ") + "}"
}

// answerTo is the shortest answer whose value is the one given.
func answerTo(f *spec.Field, value []byte) string {
	text := string(value)
	short := text
	switch f.Kind {
	case spec.KindString, spec.KindEnum, spec.KindBytes:
		var s string
		if json.Unmarshal(value, &s) == nil && s != "" {
			short = s
		}
	case spec.KindList:
		var list []string
		if json.Unmarshal(value, &list) == nil && len(list) > 0 {
			short = strings.Join(list, ",")
		}
	case spec.KindMap:
		var m map[string]string
		if json.Unmarshal(value, &m) == nil && len(m) > 0 {
			short = mapAnswer(m)
		}
	case spec.KindBool, spec.KindInt, spec.KindNumber, spec.KindMessage, spec.KindOpen:
	}
	if back, err := answeredValue(f, short); err == nil && back == compact(text) && short != clearedAnswer {
		return short
	}
	return text
}

func mapAnswer(m map[string]string) string {
	var items []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		items = append(items, k+"="+m[k])
	}
	return strings.Join(items, ",")
}

// compact is JSON as tree writes it, by which two texts are compared.
func compact(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return jsonText(v)
}

func jsonText(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // was JSON a moment ago
	return strings.TrimSpace(b.String())
}

// layerFlags are the flags that make one layer of another.
func layerFlags(old, new *spec.Layer) (f fieldFlags) {
	for _, c := range spec.Diff(old, new) {
		switch c.NewState {
		case spec.Set:
			f.set = append(f.set, c.Path+"="+flagValue(c))
		case spec.Cleared:
			f.clear = append(f.clear, c.Path)
		case spec.Absent:
			f.inherit = append(f.inherit, c.Path)
		}
	}
	return f
}

// flagValue is the value of --set: text as it is, where --set takes it for that text.
func flagValue(c spec.Change) string {
	var text string
	if json.Unmarshal(c.New, &text) != nil {
		return string(c.New)
	}
	if plain, err := spec.Apply(nil, []spec.Change{{Path: c.Path, New: []byte(text), NewState: spec.Set}}); err == nil && len(plain.Leaves()) > 0 {
		return string(c.New) // It is JSON of a value of its own.
	}
	if json.Valid([]byte(text)) && strings.HasPrefix(text, `"`) {
		return string(c.New)
	}
	return text
}
