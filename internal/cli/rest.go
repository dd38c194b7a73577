package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// maxListed is the longest list that is shown. Its pages are not counted: one may be empty, and not the last.
const maxListed = 1_000_000

// tooLong ends a list that does not: a part of it must not pass for the whole.
func tooLong() error {
	return fault.New(fault.Exhausted, "LIST_TOO_LONG", "there are more than %d", maxListed).WithHint("Narrow the list, or read it page by page over the API.")
}

// wrap returns {"key": n} as JSON.
func wrap(key string, n *tree.Node) json.RawMessage {
	b := append([]byte{'{'}, tree.AppendString(nil, key)...)
	b = append(b, ':')
	return append(n.AppendJSON(b), '}')
}

// without returns an object lacking some keys.
func without(n *tree.Node, names ...string) *tree.Node {
	out := *n
	out.Keys = slices.DeleteFunc(slices.Clone(n.Keys), func(k tree.Key) bool { return slices.Contains(names, k.Name) })
	return &out
}

// patch sends the keys of n as an update. mask names the fields that are replaced as a whole; without one exactly the keys given
// are changed.
func (s *session) patch(ctx context.Context, c *client.Client, path, key string, n *tree.Node, reason, etag, mask string) (json.RawMessage, error) {
	if len(n.Keys) == 0 {
		return nil, fault.Invalidf("UNCHANGED", "the file changes nothing")
	}
	var header []string
	if etag != "" {
		header = append(header, "If-Match", etag)
	}
	header = append(header, reasonHeader(reason)...)
	body := wrap(key, n)
	if mask != "" {
		body = append(body[:len(body)-1], `,"updateMask":`...)
		body = append(tree.AppendString(body, mask), '}')
	}
	return s.write(ctx, c, "PATCH", path, body, header...)
}

// field returns a field of an object by its name in snake_case, however it is spelt there.
func field(n *tree.Node, name string) *tree.Node {
	if v := n.Get(name); v != nil {
		return v
	}
	return n.Get(tree.Camel(name))
}

// withQuery adds parameters to a path: names and values in turns, those without a value left out.
func withQuery(path string, pairs ...string) string {
	query := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// enumName is the wire name of a value of an enum that people write without its prefix and in lower case, "" for none.
func enumName(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + strings.TrimPrefix(strings.ToUpper(value), prefix)
}

// listAll reads every page of a list, whose path may have a query, and returns one JSON array.
func listAll(ctx context.Context, c *client.Client, path, key string) (json.RawMessage, error) {
	all := []json.RawMessage{}
	token, and := "", "?"
	if strings.Contains(path, "?") {
		and = "&"
	}
	for len(all) <= maxListed {
		raw, err := c.REST(ctx, "GET", path+and+"pageSize=1000&pageToken="+url.QueryEscape(token), nil)
		if err != nil {
			return nil, err
		}
		var page map[string]json.RawMessage
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fault.Internalf(err, "the answer is not JSON")
		}
		var items []json.RawMessage
		if len(page[key]) > 0 {
			if err := json.Unmarshal(page[key], &items); err != nil {
				return nil, fault.Internalf(err, "the answer is no list")
			}
		}
		all = append(all, items...)
		next := ""
		if len(page["nextPageToken"]) > 0 {
			if err := json.Unmarshal(page["nextPageToken"], &next); err != nil {
				return nil, fault.Internalf(err, "the answer has no page token")
			}
		}
		if next == "" {
			return json.Marshal(all)
		}
		if next == token {
			return nil, fault.Internalf(nil, "the server gives the same page again and again")
		}
		token = next
	}
	return nil, tooLong()
}

// objects decodes one object or a list of them.
func objects(raw json.RawMessage, one bool) ([]map[string]any, error) {
	var list []map[string]any
	var err error
	if one {
		list = make([]map[string]any, 1)
		err = json.Unmarshal(raw, &list[0])
	} else {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fault.Internalf(err, "the answer is not what was expected")
	}
	return list, nil
}

// warnings prints what the server warns about an edit that it made.
func (s *session) warnings(raw json.RawMessage) {
	var v struct {
		Warnings []string `json:"warnings"`
	}
	if json.Unmarshal(raw, &v) == nil {
		for _, w := range v.Warnings {
			fmt.Fprintln(s.Err, "warning:", clean(w))
		}
	}
}

// showObject prints one object: a document where no other format was asked for, because a table cell holds no spec.
func (s *session) showObject(raw json.RawMessage, doc func() ([]byte, error)) error {
	if s.output == "json" || s.output == "yaml" {
		return s.emitJSON(raw)
	}
	text, err := doc()
	if err != nil {
		return err
	}
	return writeVisible(s.Out, text)
}

// wireKeys are the fields of a spec that are JSON strings on the wire, by their names in files.
var wireKeys = map[string]string{"namespaceConfigJson": "namespace", "networkConfigJson": "network", "podTemplateJson": "pod"}

// expandTree turns the three JSON strings of a spec on the wire into objects, as the files have them.
func expandTree(spec *tree.Node) *tree.Node {
	out := *spec
	out.Keys = slices.Clone(spec.Keys)
	for i, k := range out.Keys {
		plain, ok := wireKeys[k.Name]
		if !ok {
			continue
		}
		if k.Value.Kind == tree.String {
			n, err := tree.ParseJSON([]byte(k.Value.Text))
			if err != nil {
				continue // shown as it is
			}
			out.Keys[i].Value = n
		}
		out.Keys[i].Name = plain
	}
	return &out
}

// expandSpec is expandTree for the spec of a profile.
func expandSpec(raw json.RawMessage) json.RawMessage {
	n, err := tree.ParseJSON(raw)
	if err != nil {
		return raw
	}
	for i, k := range n.Keys {
		if k.Name == "spec" {
			n.Keys[i].Value = expandTree(k.Value)
		}
	}
	return n.JSON()
}

// readEdit reads the file of an edit, or lets the user edit the document.
func (s *session) readEdit(ctx context.Context, kind, name, title string, doc func() ([]byte, error)) (*file, error) {
	if name != "" {
		return s.readKind(kind, name)
	}
	text, err := doc()
	if err != nil {
		return nil, err
	}
	return s.edit(ctx, title, text)
}

// readKind is readFile for a file about an object of this kind.
func (s *session) readKind(kind, name string) (*file, error) {
	f, err := s.readFile(name)
	if err != nil {
		return nil, err
	}
	return f, f.ofKind(kind)
}
