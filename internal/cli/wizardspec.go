package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/cli/wizard"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

// specPrompts asks for fields of a spec: a prompt for each, made of what the schema says of it. Nothing here knows a field by name.
type specPrompts struct {
	base    *spec.Layer
	fields  []*spec.Field
	prompts []*wizard.Prompt
}

// clearedAnswer is the answer that a field is stated to have no value.
const clearedAnswer = "null"

// authored are the fields that a profile may set, those of a part together and those of none first.
func authored() []*spec.Field {
	fields := slices.DeleteFunc(spec.Fields(), func(f *spec.Field) bool { return f.Derived || f.ZoneOnly })
	at := map[string]int{"": -1}
	for i, f := range fields {
		if _, ok := at[partOf(f)]; !ok {
			at[partOf(f)] = i
		}
	}
	slices.SortStableFunc(fields, func(a, b *spec.Field) int { return cmp.Compare(at[partOf(a)], at[partOf(b)]) })
	return fields
}

// partOf is the part of the spec that a field is asked with: the message that holds it, "" at the top.
func partOf(f *spec.Field) string { return strings.TrimSuffix(strings.TrimSuffix(f.Path, f.Name), ".") }

// specParts are the parts of the spec in the order of the schema, without the one that is always asked.
func specParts() []string {
	var out []string
	for _, f := range authored() {
		if part := partOf(f); part != "" && !slices.Contains(out, part) {
			out = append(out, part)
		}
	}
	return out
}

// partsPrompt asks which parts of the spec to ask about; those that the layer states something in are offered.
func partsPrompt(l *spec.Layer) *wizard.Prompt {
	p := &wizard.Prompt{Flag: "--ask PART", Title: "Which parts of the spec?", Doc: "What is not asked stays as it is.", Many: true}
	var stated []string
	for _, part := range specParts() {
		label := part
		if doc := spec.Profile().DocOf(part); doc != "" {
			label += ": " + doc
		}
		p.Options = append(p.Options, wizard.Option{Value: part, Label: short(label)})
		if slices.ContainsFunc(l.Leaves(), func(leaf spec.Leaf) bool { return partOf(leaf.Field) == part }) {
			stated = append(stated, part)
		}
	}
	p.Answer = strings.Join(stated, ",")
	return p
}

// newSpecPrompts asks for the fields of parts, with what the layer states about them, but for those whose path is in given.
func newSpecPrompts(base *spec.Layer, parts, given []string) *specPrompts {
	w := &specPrompts{base: base}
	for _, f := range authored() {
		if part := partOf(f); part != "" && !slices.Contains(parts, part) || slices.Contains(given, f.Path) {
			continue
		}
		i := len(w.fields)
		p := &wizard.Prompt{Flag: "--set " + f.Path + "=", Title: f.Path, Doc: f.Doc, Example: f.Example, Answer: statedAnswer(base, f)}
		p.Options = optionsOf(f, p.Answer)
		p.Check = func(answer string) error { return w.check(i, answer) }
		w.fields, w.prompts = append(w.fields, f), append(w.prompts, p)
	}
	return w
}

// optionsOf are the answers to a field with a closed set of values, nil for any other.
func optionsOf(f *spec.Field, answer string) []wizard.Option {
	values := f.Values
	if f.Kind == spec.KindBool {
		values = []string{"true", "false"}
	}
	if values == nil {
		return nil
	}
	out := []wizard.Option{{Value: "", Label: "(not stated)"}}
	for _, v := range values {
		out = append(out, wizard.Option{Value: v})
	}
	if answer == clearedAnswer {
		out = append(out, wizard.Option{Value: clearedAnswer, Label: "(stated to have no value)"})
	}
	return out
}

// layer is what the base becomes by the answers to the first n prompts, n+1 with the one that is being typed. What is not asked yet
// is left out: it cannot be in the way of an answer.
func (w *specPrompts) layer(n int, typed string) (*spec.Layer, error) {
	var set, clear, inherit []string
	var problems tree.Problems
	for i, f := range w.fields {
		answer := w.prompts[i].Answer
		if i == n {
			answer = typed
		} else if i > n {
			answer = ""
		}
		s, c, err := statements(f, answer)
		if err != nil {
			problems.Add(nil, f.Path, "%s", err.Error())
			continue
		}
		set, clear = append(set, s...), append(clear, c...)
		for _, l := range w.base.Leaves() {
			if l.Field == f && !slices.Contains(clear, l.Path()) && !slices.ContainsFunc(s, func(s string) bool { return strings.HasPrefix(s, l.Path()+"=") }) {
				inherit = append(inherit, l.Path())
			}
		}
	}
	if err := problems.Err("invalid answers"); err != nil {
		return nil, err
	}
	return spec.Edit(w.base, set, clear, inherit)
}

// whole is the layer that all answers make.
func (w *specPrompts) whole() (*spec.Layer, error) { return w.layer(len(w.fields), "") }

// check says what is wrong with the answer to a prompt beside those before it.
func (w *specPrompts) check(i int, answer string) error {
	_, err := w.layer(i, answer)
	if err == nil {
		return nil
	}
	for _, v := range fault.From(err).Fields {
		for j, f := range w.fields[:i+1] {
			rest, ok := strings.CutPrefix(v.Path, f.Path)
			if !ok || rest != "" && rest[0] != '.' && rest[0] != '[' {
				continue
			}
			text := bodyPosition.ReplaceAllString(v.Description, "")
			if j < i { // It was right before this answer.
				text = f.Path + ": " + text
			}
			return errors.New(text)
		}
	}
	return nil // of a field that is asked for later
}

// statements are what an answer states about a field, as --set and --clear have it.
func statements(f *spec.Field, answer string) (set, clear []string, err error) {
	switch answer {
	case "":
		return nil, nil, nil
	case clearedAnswer:
		return nil, []string{f.Path}, nil
	}
	text, err := answeredValue(f, answer)
	if err != nil {
		return nil, nil, err
	}
	if !f.Open {
		return []string{f.Path + "=" + text}, nil, nil
	}
	n, err := tree.ParseJSON([]byte(text))
	if err != nil || n.Kind != tree.Object || len(n.Keys) == 0 {
		return []string{f.Path + "=" + text}, nil, nil //nolint:nilerr // it is refused where it is set, with what is wrong with it
	}
	for _, k := range n.Keys {
		set = append(set, f.PathOf(k.Name)+"="+string(k.Value.JSON()))
	}
	return set, nil, nil
}

// answeredValue is the JSON of an answer. Text stands for itself, but for "" that is none; a list may be a,b and a map a=b,c=d where no
// value needs more; whatever else is as a file has it, in one line.
func answeredValue(f *spec.Field, answer string) (string, error) {
	switch f.Kind {
	case spec.KindString, spec.KindEnum, spec.KindBytes:
		if answer == `""` {
			return answer, nil
		}
		return string(tree.AppendString(nil, answer)), nil
	case spec.KindBool, spec.KindInt, spec.KindNumber:
		if json.Valid([]byte(answer)) {
			return answer, nil
		}
		return string(tree.AppendString(nil, answer)), nil // the decoder says what is wanted
	case spec.KindList:
		if !strings.HasPrefix(answer, "[") {
			return listJSON(answer), nil
		}
	case spec.KindMap:
		if !strings.HasPrefix(answer, "{") {
			return mapJSON(answer)
		}
	case spec.KindMessage, spec.KindOpen:
	}
	n, err := specfile.Parse([]byte(answer))
	if err != nil {
		return "", fmt.Errorf("as in a file, in one line: %s", f.Example)
	}
	return string(n.JSON()), nil
}

func listJSON(answer string) string {
	out := []byte{'['}
	for i, item := range strings.Split(answer, ",") {
		if i > 0 {
			out = append(out, ',')
		}
		out = tree.AppendString(out, strings.TrimSpace(item))
	}
	return string(append(out, ']'))
}

func mapJSON(answer string) (string, error) {
	out := []byte{'{'}
	for i, item := range strings.Split(answer, ",") {
		k, v, ok := strings.Cut(item, "=")
		if !ok {
			return "", fmt.Errorf("%q is no KEY=VALUE", item)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(tree.AppendString(out, strings.TrimSpace(k)), ':')
		out = tree.AppendString(out, strings.TrimSpace(v))
	}
	return string(append(out, '}')), nil
}
