package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The request and the answer of an apply.
type (
	applyRequest struct {
		Objects  []applyObject `json:"objects"`
		Owner    string        `json:"owner,omitempty"`
		TakeOver bool          `json:"takeOver,omitempty"`
		Prune    bool          `json:"prune,omitempty"`
		Preview  bool          `json:"preview,omitempty"`
		Launches int32         `json:"launches,omitempty"`
	}
	applyObject struct {
		Kind   string  `json:"kind"`
		Name   string  `json:"name"`
		Body   string  `json:"body,omitempty"`
		Etag   *string `json:"etag,omitempty"`
		Delete bool    `json:"delete,omitempty"`
	}
	applyAnswer struct {
		Objects  []appliedObject
		Warnings []string
		Effect   *previewAnswer
	}
	appliedObject struct {
		Kind, Name, Action, Etag, PreviousOwner string
		Changes                                 []fieldChange
		Pruned                                  bool
	}
)

// actionWords are the mark of an action in a plan, and what is said of objects before and after it is done.
var actionWords = []struct{ action, mark, verb, done string }{
	{"create", "+", "create", "created"}, {"change", "~", "change", "changed"}, {"own", "=", "take", "taken"}, {"delete", "-", "delete", "deleted"}, {"none", " ", "leave", "unchanged"},
}

func (a *applyAnswer) count(action string) int {
	n := 0
	for _, o := range a.Objects {
		if o.Action == action {
			n++
		}
	}
	return n
}

func (a *applyAnswer) changes() int { return len(a.Objects) - a.count("none") }

// refusal is the error of a plan that policy tests refuse, nil for any other.
func (a *applyAnswer) refusal() error {
	if a.Effect != nil && a.Effect.RefusedByTests {
		return refusedByTests("apply")
	}
	return nil
}

// summary is such as "1 to create, 2 to change, 3 unchanged".
func (a *applyAnswer) summary(done bool) string {
	var parts []string
	for _, w := range actionWords {
		n := a.count(w.action)
		switch {
		case n == 0:
		case done || w.action == "none":
			parts = append(parts, fmt.Sprintf("%d %s", n, w.done))
		default:
			parts = append(parts, fmt.Sprintf("%d to %s", n, w.verb))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing to do")
}

// question is what is agreed to.
func (a *applyAnswer) question() string {
	text := "This is to be done: " + a.summary(false) + "."
	var gone []string
	for _, o := range a.Objects {
		if o.Action == "delete" && len(gone) < 20 {
			gone = append(gone, o.Kind+" "+o.Name)
		}
	}
	if n := a.count("delete"); n > 0 {
		text += " It deletes " + strings.Join(gone, ", ")
		if n > len(gone) {
			text += fmt.Sprintf(" and %d more", n-len(gone))
		}
		text += "."
	}
	return text
}

// showApply shows what would become of each object, and of what is launched from them. The fields of an object that is new or goes are
// its file's: they are shown with -o wide.
func (s *session) showApply(to io.Writer, plan *applyAnswer) {
	for _, o := range plan.Objects {
		if o.Action == "none" {
			continue
		}
		fmt.Fprintln(to, clean(o.line()))
		if o.Action == "change" || s.output == "wide" {
			for _, c := range o.Changes {
				fmt.Fprintln(to, clean(fmt.Sprintf("    %s: %s -> %s (%s)", c.Path, jsonCell(c.Old), jsonCell(c.New), c.Meaning)))
			}
		}
	}
	fmt.Fprintln(to, plan.summary(false))
	for _, w := range plan.Warnings {
		fmt.Fprintln(to, "warning:", clean(w))
	}
	if plan.Effect != nil && plan.changes() > 0 {
		out := s.Out
		s.Out = to
		s.effect(plan.Effect)
		s.Out = out
	}
}

func (o *appliedObject) line() string {
	mark := " "
	for _, w := range actionWords {
		if w.action == o.Action {
			mark = w.mark
		}
	}
	text := mark + " " + o.Kind + " " + o.Name
	if o.Pruned {
		text += " (in no file)"
	}
	if o.Action == "own" {
		text += " (only its owner changes)"
	}
	if o.PreviousOwner != "" {
		text += fmt.Sprintf(" (belongs to %q)", o.PreviousOwner)
	}
	return text
}

// emitApplied shows what was done.
func (s *session) emitApplied(raw json.RawMessage, done *applyAnswer) error {
	for _, w := range done.Warnings {
		fmt.Fprintln(s.Err, "warning:", clean(w))
	}
	if s.output == "json" || s.output == "yaml" {
		return s.emitJSON(raw)
	}
	for _, o := range done.Objects {
		for _, w := range actionWords {
			if w.action == o.Action && o.Action != "none" {
				fmt.Fprintln(s.Out, clean(o.Kind+" "+o.Name+" "+w.done))
			}
		}
	}
	fmt.Fprintln(s.Err, done.summary(true))
	return nil
}
