package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// What became of a field that was imported.
const (
	importKept        = "kept"
	importChanged     = "changed"
	importUnsupported = "unsupported"
	// importState is what the other server knows about the object, which is no configuration.
	importState = "state"
)

// imported is one field of an object, and what became of it.
type imported struct {
	File    string `json:"file"`
	Object  string `json:"object"`
	Path    string `json:"path"`
	Outcome string `json:"outcome"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Why     string `json:"why,omitempty"`
}

// importer makes documents of objects of the vendor's API, as answers, request bodies or its command line's files have them.
type importer struct {
	report []imported
	// names are the display names of imported profiles, by id.
	names map[string]string
	taken map[string]bool
	// seen has the place of each object that has an id.
	seen map[string]string
	// pages says, for each kind of list, whether its last page was there.
	pages map[string]bool
	all   []exported

	file, object string
}

// source is one object that was found in a file.
type source struct {
	file, kind string
	n          *tree.Node
}

func (im *importer) say(outcome, path, from, to, format string, args ...any) {
	im.report = append(im.report, imported{im.file, im.object, path, outcome, from, to, fmt.Sprintf(format, args...)})
}

// sources finds the objects of a document: itself, those of a list answer, or the one that a request wraps.
func (im *importer) sources(file string, n *tree.Node) ([]source, error) {
	for _, list := range []struct{ key, kind string }{{"profile_templates", "profile"}, {"runners", "runner"}, {"managed_runners", "runner"}} {
		l := field(n, list.key)
		if l == nil || l.Kind != tree.List {
			continue
		}
		next := ""
		if t := field(n, "next_page_token"); t != nil {
			next = t.Text
		}
		im.pages[list.key] = im.pages[list.key] || next == ""
		var out []source
		for _, item := range l.Items {
			out = append(out, source{file, list.kind, item})
		}
		return out, nil
	}
	if p := field(n, "profile_template"); p != nil {
		return []source{{file, "profile", p}}, nil
	}
	if r := field(n, "runner"); r != nil {
		if id := field(n, "runner_id"); id != nil && r.Kind == tree.Object {
			identity := field(r, "identity")
			if identity == nil {
				identity = &tree.Node{Kind: tree.Object, Line: r.Line, Col: r.Col}
				r.Keys = append(r.Keys, tree.Key{Name: "identity", Value: identity})
			}
			if field(identity, "runner_id") == nil {
				identity.Keys = append(identity.Keys, tree.Key{Name: "runner_id", Value: id})
			}
		}
		return []source{{file, "runner", r}}, nil
	}
	switch {
	case field(n, "identity") != nil || field(n, "managed_spec") != nil || field(n, "profile_bindings") != nil:
		return []source{{file, "runner", n}}, nil
	case field(n, "display_name") != nil || field(n, "spec") != nil:
		return []source{{file, "profile", n}}, nil
	}
	return nil, misplaced(n, "", "is neither a profile template nor a managed runner, nor a list of them")
}

// profile makes a document of a profile template.
func (im *importer) profile(n *tree.Node) error {
	name := textOf(n, "display_name")
	im.object = "profile " + name
	if name == "" {
		return misplaced(n, "display_name", "must be the name of the profile")
	}
	name = im.rename("display_name", name)
	if id := textOf(n, "id"); id != "" {
		if err := im.once(n, "id", "profile "+id); err != nil {
			return err
		}
		im.names[id] = name
	}
	out := &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "displayName", Value: stringNode(name)}}}
	layer := &tree.Node{Kind: tree.Object}
	for _, k := range n.Keys {
		switch tree.Camel(k.Name) {
		case "displayName":
		case "description", "labels":
			out.Keys = append(out.Keys, tree.Key{Name: tree.Camel(k.Name), Value: k.Value})
			im.say(importKept, k.Name, string(k.Value.JSON()), "", "")
		case "spec":
			var err error
			if layer, err = im.layer(k.Value, "spec"); err != nil {
				return err
			}
		default:
			im.rest(k, "id", "organizationId", "createdAt", "updatedAt", "etag", "revision", "warnings")
		}
	}
	out.Keys = append(out.Keys, tree.Key{Name: "spec", Value: layer})
	im.all = append(im.all, exported{"profile", name, profileBody(out)})
	return nil
}

// once refuses a second object of an id: one of them would take the place of the other.
func (im *importer) once(n *tree.Node, path, what string) error {
	if other, is := im.seen[what]; is {
		return misplaced(n, path, "%s is described at %s already", what, other)
	}
	im.seen[what] = fmt.Sprintf("%s:%d", im.file, max(n.Line, 1))
	return nil
}

// rest reports a field that a document has no place for: state of the other server, or something that is not known here.
func (im *importer) rest(k tree.Key, state ...string) {
	if slices.Contains(state, tree.Camel(k.Name)) {
		im.say(importState, k.Name, string(k.Value.JSON()), "", "made by the server: left out")
		return
	}
	im.say(importUnsupported, k.Name, string(k.Value.JSON()), "", "there is no such field here: left out, nothing stands for it")
}

// rename makes a name one that can be used here.
func (im *importer) rename(path, name string) string {
	now := name
	if spec.CheckName(path, name) != nil {
		now = strings.Trim(strings.Map(func(r rune) rune {
			if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._-", r)) {
				return r
			}
			return '-'
		}, name), "-._")
		now = first(now[:min(len(now), spec.MaxName-4)], "profile")
		if spec.IsUUIDShaped(now) {
			now = "p-" + now
		}
	}
	for base, i := now, 2; im.taken[now]; i++ {
		now = fmt.Sprintf("%s-%d", base, i)
	}
	im.taken[now] = true
	if now != name {
		im.say(importChanged, path, name, now, "names hold A-Z, a-z, 0-9, ., _ and -, and are unique")
	} else {
		im.say(importKept, path, name, "", "")
	}
	return now
}

// layer reads a part of a spec, without what cannot be used here, and returns it in the form of the wire.
func (im *importer) layer(n *tree.Node, at string) (*tree.Node, error) {
	var l *spec.Layer
	for range maxImportDrops {
		var err error
		if l, err = spec.DecodeLayer(n, at); err == nil {
			break
		}
		dropped := false
		for _, v := range fault.From(err).Fields {
			if from, ok := dropPath(n, strings.TrimPrefix(strings.TrimPrefix(v.Path, at), ".")); ok {
				im.say(importUnsupported, v.Path, from, "", "%s", leftOut(v, "what lies beneath shows through"))
				dropped = true
			}
		}
		if !dropped {
			return nil, err
		}
	}
	if l == nil {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "%s: more is wrong with %s than can be left out", im.object, at)
	}
	for _, leaf := range l.Leaves() {
		path, is := tree.Join(at, leaf.Path()), string(leaf.JSON())
		if was := valueIn(n, leaf.Path()); was == nil || string(was.JSON()) == is {
			im.say(importKept, path, is, "", "")
		} else {
			im.say(importChanged, path, string(was.JSON()), is, "the same in another spelling")
		}
	}
	return tree.ParseJSON(l.WireJSON())
}

// leftOut says why a field is left out and what that comes to. Nothing stands for one that is not known.
func leftOut(v fault.Field, instead string) string {
	why := bodyPosition.ReplaceAllString(v.Description, "")
	if strings.HasPrefix(why, "unknown field") {
		instead = "nothing stands for it"
	}
	return why + ": left out, " + instead
}

// maxImportDrops is how often a spec is read again without what was wrong.
const maxImportDrops = 100
