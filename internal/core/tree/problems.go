package tree

import (
	"fmt"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
)

// MaxProblems is how many violations are listed; further ones are counted.
const MaxProblems = 64

// Problems collects what is wrong with a document, so that its author hears everything at once. The zero value is ready.
type Problems struct {
	fields []fault.Field
	more   int
	reason string
}

// Add notes a violation at n (which may be nil) under a path.
func (p *Problems) Add(n *Node, path, format string, args ...any) {
	p.AddReason(fault.ReasonFieldInvalid, n, path, format, args...)
}

// AddReason is Add with a reason other than FIELD_INVALID.
func (p *Problems) AddReason(reason string, n *Node, path, format string, args ...any) {
	line, col := 0, 0
	if n != nil {
		line, col = n.Line, n.Col
	}
	p.add(reason, line, col, path, fmt.Sprintf(format, args...))
}

// Unknown notes an object key that names no field. names are the known ones in snake_case; hint, when not empty, is used
// in place of a suggestion.
func (p *Problems) Unknown(k Key, path string, names []string, hint string) {
	if hint == "" {
		hint = unknownHint(k.Name, names)
	}
	p.add(fault.ReasonFieldUnknown, k.Line, k.Col, path, fmt.Sprintf("unknown field %q; %s", clip(k.Name), hint))
}

func (p *Problems) add(reason string, line, col int, path, text string) {
	if p.reason == "" {
		p.reason = reason
	} else if p.reason != reason {
		p.reason = fault.ReasonFieldInvalid
	}
	if len(p.fields) >= MaxProblems {
		p.more++
		return
	}
	p.fields = append(p.fields, fault.Field{Path: path, Description: text, Line: line, Column: col})
}

// Len returns how many violations there are.
func (p *Problems) Len() int { return len(p.fields) + p.more }

// Err returns nil without violations, else one Invalid fault with all of them. Its reason is that of the violations when
// they agree, else FIELD_INVALID.
func (p *Problems) Err(format string, args ...any) error {
	if len(p.fields) == 0 {
		return nil
	}
	e := fault.Invalidf(p.reason, format, args...)
	e.Fields = p.fields
	if p.more > 0 {
		e.Fields = append(e.Fields, fault.Field{Description: fmt.Sprintf("and %d more problems", p.more)})
	}
	return e
}

// Join returns path and name with a dot between them when both are there.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	if name == "" {
		return path
	}
	return path + "." + name
}

// maxNamed is how many known names are listed when nothing resembles the unknown one.
const maxNamed = 12

func unknownHint(name string, names []string) string {
	if s := Suggest(name, styled(name, names)); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	switch {
	case len(names) == 0:
		return "no field is known here"
	case len(names) > maxNamed:
		return fmt.Sprintf("known are %s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
	}
	return "known are " + strings.Join(names, ", ")
}

// styled returns the candidates in the style that the author uses.
func styled(name string, names []string) []string {
	if strings.ToLower(name) == name {
		return names
	}
	camel := make([]string, len(names))
	for i, n := range names {
		camel[i] = Camel(n)
	}
	return camel
}

// Camel returns a snake_case name in camelCase, as protobuf's JSON mapping does.
func Camel(name string) string {
	if !strings.Contains(name, "_") {
		return name
	}
	b := make([]byte, 0, len(name))
	up := false
	for i := range len(name) {
		c := name[i]
		if c == '_' {
			up = true
			continue
		}
		if up && c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		up = false
		b = append(b, c)
	}
	return string(b)
}

// clip shortens text that is quoted back to its author.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
