package cli

import (
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/tree"
)

// bindings makes bindings name their profiles, and spells their overrides out.
func (im *importer) bindings(n *tree.Node) (*tree.Node, error) {
	out := &tree.Node{Kind: tree.List}
	if n.Kind != tree.List {
		return nil, misplaced(n, "profile_bindings", "expected a list, got %s", n.Kind)
	}
	for i, b := range n.Items {
		at := "profile_bindings[" + strconv.Itoa(i) + "]"
		one := &tree.Node{Kind: tree.Object}
		for _, k := range b.Keys {
			path, name := at+"."+k.Name, tree.Camel(k.Name)
			v := k.Value
			switch name {
			case "profileTemplateId":
				if profile, known := im.names[v.Text]; known {
					im.say(importChanged, path, v.Text, profile, "ids differ from server to server: the binding names its profile")
				} else {
					im.say(importUnsupported, path, v.Text, "", "the profile with this id is in none of the files: apply refuses the binding until it names one")
				}
			case "overridesJson":
				if v.Text == "" {
					continue
				}
				inner, err := tree.ParseJSON([]byte(v.Text))
				if err != nil {
					return nil, misplaced(v, path, "is not JSON: %v", err)
				}
				layer, err := im.layer(inner, at+".overrides")
				if err != nil {
					return nil, err
				}
				v = stringNode(string(layer.JSON()))
			case "profileName", "isDefault", "warm":
				im.say(importKept, path, string(v.JSON()), "", "")
			default:
				im.say(importUnsupported, path, string(v.JSON()), "", "there is no such field here: left out, nothing stands for it")
				continue
			}
			one.Keys = append(one.Keys, tree.Key{Name: name, Value: v})
		}
		out.Items = append(out.Items, one)
	}
	return out, nil
}

func stringNode(text string) *tree.Node { return &tree.Node{Kind: tree.String, Text: text} }

// textOf returns a text of an object by its name in snake_case, "" when it is not there.
func textOf(n *tree.Node, name string) string {
	if v := field(n, name); v != nil && v.Kind == tree.String {
		return v.Text
	}
	return ""
}

// valueIn returns what stands at a path, nil when nothing does. Texts of JSON are looked into, as the wire has parts of a spec.
func valueIn(n *tree.Node, path string) *tree.Node {
	for _, step := range split(path) {
		if n = opened(n); n == nil {
			return nil
		}
		n = wireChild(n, step)
	}
	return n
}

// wireChild is child where the three parts of a spec may have the names that they have on the wire.
func wireChild(n *tree.Node, step string) *tree.Node {
	if v, _ := child(n, step); v != nil {
		return v
	}
	for wire, name := range wireKeys {
		if name == step {
			v, _ := child(n, wire)
			if v == nil {
				v, _ = child(n, snake[wire])
			}
			return v
		}
	}
	return nil
}

// snake has the names of wireKeys as the command line of the hosted service may write them.
var snake = map[string]string{"namespaceConfigJson": "namespace_config_json", "networkConfigJson": "network_config_json", "podTemplateJson": "pod_template_json"}

// opened returns the object that a text is, or the value itself.
func opened(n *tree.Node) *tree.Node {
	if n == nil || n.Kind != tree.String {
		return n
	}
	if inner, err := tree.ParseJSON([]byte(n.Text)); err == nil {
		return inner
	}
	return n
}

// dropPath takes out what stands at a path, or, where nothing does, what it would be in. It returns what was there.
func dropPath(n *tree.Node, path string) (was string, ok bool) {
	for steps := split(path); len(steps) > 0; steps = steps[:len(steps)-1] {
		if was, ok = dropSteps(n, steps); ok {
			return was, true
		}
	}
	return "", false
}

func dropSteps(n *tree.Node, steps []string) (string, bool) {
	if n.Kind == tree.String {
		inner := opened(n)
		was, ok := "", false
		if inner != n {
			if was, ok = dropSteps(inner, steps); ok {
				n.Text = string(inner.JSON())
			}
		}
		return was, ok
	}
	next := wireChild(n, steps[0])
	if next == nil {
		return "", false
	}
	if len(steps) > 1 {
		return dropSteps(next, steps[1:])
	}
	for i := range n.Keys {
		if n.Keys[i].Value == next {
			n.Keys = append(n.Keys[:i:i], n.Keys[i+1:]...)
			return string(next.JSON()), true
		}
	}
	for i := range n.Items {
		if n.Items[i] == next {
			n.Items = append(n.Items[:i:i], n.Items[i+1:]...)
			return string(next.JSON()), true
		}
	}
	return "", false
}

// described is a report as lines: how many fields of each outcome, and those that are not as they were.
func described(report []imported, all bool) table {
	t := table{head: []string{"OBJECT", "FIELD", "OUTCOME", "FROM", "TO", "WHY"}}
	for _, r := range report {
		if all || r.Outcome == importChanged || r.Outcome == importUnsupported {
			t.rows = append(t.rows, []string{r.Object, r.Path, r.Outcome, short(first(r.From, "-")), short(first(r.To, "-")), strings.Join(strings.Fields(r.Why), " ")})
		}
	}
	return t
}
