package spec

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Problem is a broken rule between two fields of a spec.
type Problem struct {
	// Leaf is the field that is wrong, Other the sibling that makes it so. Leaf may be Absent: something is missing.
	Leaf, Other Leaf
	// Message says what is wrong, without the path.
	Message string
}

// ValidateLeaves checks the rules between fields over leaves sorted as in a layer, such as those of a resolved spec: a
// request above its limit, a field that another one needs or forbids. Rules of single values were checked when each layer
// was read.
func ValidateLeaves(leaves []Leaf) []Problem { return profile().ValidateLeaves(leaves) }

// ValidateLeaves is the function of that name for the fields of r.
func (r *Registry) ValidateLeaves(leaves []Leaf) []Problem {
	problems := r.aboveSibling(leaves)
	for _, f := range r.ruled {
		l := find(leaves, f)
		given := l.State == Set && l.text() != `""`
		if c := f.requiredWhen; c != nil && c.field != nil && !given {
			if other := find(leaves, c.field); c.holds(other) {
				problems = append(problems, Problem{l, other, fmt.Sprintf("must be given when %s is %s", c.field.Name, other)})
			}
		}
		if c := f.onlyWhen; c != nil && c.field != nil && given {
			if other := find(leaves, c.field); !c.holds(other) {
				problems = append(problems, Problem{l, other,
					fmt.Sprintf("has a meaning only when %s is %s", c.field.Name, strings.Join(c.values, " or "))})
			}
		}
	}
	return problems
}

// aboveSibling checks the only rule that can be broken within one layer: two values that both are there.
func (r *Registry) aboveSibling(leaves []Leaf) []Problem {
	var problems []Problem
	for _, f := range r.ruled {
		if f.atMost == nil {
			continue
		}
		l, most := find(leaves, f), find(leaves, f.atMost)
		a, ok := l.Amount()
		b, ok2 := most.Amount()
		if ok && ok2 && a > b {
			problems = append(problems, Problem{l, most, fmt.Sprintf("%s is above %s, which is %s", l, f.atMost.Name, most)})
		}
	}
	return problems
}

// siblings checks a layer by itself.
func (d *layerDecoder) siblings(l *Layer, at string) {
	for _, p := range d.registry.aboveSibling(l.leaves) {
		d.problems.Add(d.nodes[p.Leaf.Field], tree.Join(at, p.Leaf.Path()), "%s", p.Message)
	}
}

func find(leaves []Leaf, f *Field) Leaf {
	at, ok := slices.BinarySearchFunc(leaves, Leaf{Field: f}, Leaf.Compare)
	if !ok {
		return Leaf{Field: f}
	}
	return leaves[at]
}

func (c *condition) holds(l Leaf) bool {
	text, _ := l.Any().(string)
	return l.State == Set && slices.Contains(c.values, text)
}

// holds is condition.holds inside a message that is one value.
func holds(n *tree.Node, md protoreflect.MessageDescriptor, c *specpb.Condition) bool {
	fd := md.Fields().ByName(protoreflect.Name(c.GetField()))
	if fd == nil {
		return false
	}
	v := field(n, fd)
	return v != nil && slices.Contains(c.GetValues(), v.Text)
}
