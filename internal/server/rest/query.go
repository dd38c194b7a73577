package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Query returns the query parameters of a request, which must be among allowed (in snake_case; camelCase is accepted), each
// given once. Keys of the result are in snake_case.
func Query(r *http.Request, allowed ...string) (map[string]string, error) {
	values, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	p := &tree.Problems{}
	out := map[string]string{}
	for _, name := range sortedKeys(values) {
		known := canonical(name, allowed)
		if known == "" {
			unknownParameter(p, name, allowed)
			continue
		}
		if _, dup := out[known]; dup || len(values[name]) > 1 {
			p.Add(nil, known, "given more than once")
			continue
		}
		out[known] = values[name][0]
	}
	return out, p.Err("invalid query parameters")
}

// QueryInto checks query parameters against the fields of a message, except those named, by decoding them into m.
func QueryInto(r *http.Request, m protoreflect.Message, except func(name string) bool) error {
	values, err := parseQuery(r)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(tree.FieldNames(m.Descriptor()), except)
	p := &tree.Problems{}
	seen := map[string]bool{}
	for _, name := range sortedKeys(values) {
		known := canonical(name, names)
		if known == "" {
			unknownParameter(p, name, names)
			continue
		}
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(known))
		if seen[known] || len(values[name]) > 1 && !fd.IsList() {
			p.Add(nil, known, "given more than once")
			continue
		}
		seen[known] = true
		tree.DecodeField(queryNode(fd, values[name]), m, fd, known, p)
	}
	return p.Err("invalid query parameters")
}

// spellEnums writes the values of enums in the query parameters of a request, which m was decoded from, with their whole names: the
// generated decoder knows no others.
func spellEnums(r *http.Request, m protoreflect.Message) {
	values := r.URL.Query()
	changed := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.EnumKind {
			return true
		}
		var names []string
		name := func(v protoreflect.Value) {
			names = append(names, string(fd.Enum().Values().ByNumber(v.Enum()).Name()))
		}
		if fd.IsList() {
			for i := range v.List().Len() {
				name(v.List().Get(i))
			}
		} else {
			name(v)
		}
		values.Del(tree.Camel(string(fd.Name())))
		values[string(fd.Name())], changed = names, true
		return true
	})
	if changed {
		r.URL.RawQuery = values.Encode()
	}
}

func parseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonSyntax, "the query string is malformed: %v", err)
	}
	return values, nil
}

func sortedKeys(values url.Values) []string {
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// canonical returns the known name that a parameter spells in snake_case or camelCase, or "".
func canonical(name string, known []string) string {
	for _, k := range known {
		if name == k || name == tree.Camel(k) {
			return k
		}
	}
	return ""
}

func unknownParameter(p *tree.Problems, name string, known []string) {
	p.Unknown(tree.Key{Name: name}, name, known, "")
}

// queryNode gives the text of a parameter the kind that its field has in JSON.
func queryNode(fd protoreflect.FieldDescriptor, values []string) *tree.Node {
	if !fd.IsList() {
		return scalarNode(fd, values[0])
	}
	list := &tree.Node{Kind: tree.List}
	for _, v := range values {
		list.Items = append(list.Items, scalarNode(fd, v))
	}
	return list
}

func scalarNode(fd protoreflect.FieldDescriptor, text string) *tree.Node {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if text == "true" || text == "false" {
			return &tree.Node{Kind: tree.Bool, Text: text}
		}
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
	default: // integers, and enums by number
		if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			return &tree.Node{Kind: tree.Number, Text: text}
		}
	}
	return &tree.Node{Kind: tree.String, Text: text}
}
