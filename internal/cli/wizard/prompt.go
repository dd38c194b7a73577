// Package wizard asks people questions at a terminal: as a form, or as plain lines for screen readers and terminals that can do nothing
// else. It knows nothing of what the questions are about: prompts are data, each of which stands for a flag of a command.
package wizard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/bermhq/berm/internal/cli/visible"
)

// ErrAborted says that whoever was asked wants no more, or is gone.
var ErrAborted = errors.New("aborted")

// Option is one answer to choose.
type Option struct{ Value, Label string }

// Prompt is one question. Its fields are text of anybody: whatever is shown of them is made visible.
type Prompt struct {
	// Flag is the flag, or the argument, that answers the same.
	Flag string
	// Title is the question in a few words, Doc what the answer means, Example one that could be.
	Title, Doc, Example string
	// Options are the answers there are; none: any text.
	Options []Option
	// Many: any number of the options, in Answer separated by commas.
	Many bool
	// Answer is the answer, and before one the answer that is offered.
	Answer string
	// Check says what is wrong with an answer. It is asked with every key, so it does nothing that takes long.
	Check func(answer string) error
}

// Terminal is where questions are asked. The answers come from a terminal in both cases.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	// Lines: plain lines, nothing that moves.
	Lines bool

	keyboard *keyboard
	reader   *lineReader
}

// Ask asks all prompts and puts the answers into them. After an error no answer counts; ErrAborted is one of them.
func (t *Terminal) Ask(ctx context.Context, prompts []*Prompt) error {
	if len(prompts) == 0 {
		return nil
	}
	if t.Lines {
		return t.lines(ctx, prompts)
	}
	return t.form(ctx, prompts)
}

func (p *Prompt) check(answer string) error {
	if p.Check == nil {
		return nil
	}
	return p.Check(answer)
}

// typed returns the answer that something typed stands for: of an offer that no line can hold, nothing keeps it and "-" drops it.
func (p *Prompt) typed(text string) string {
	if p.typable() {
		return text
	}
	switch text {
	case "":
		return p.Answer
	case none:
		return ""
	}
	return text
}

// none is what is typed where nothing would mean the answer that is offered.
const none = "-"

// typable reports that the offer can stand in a line and be edited there as it is.
func (p *Prompt) typable() bool { return !strings.ContainsFunc(p.Answer, unicode.IsControl) }

// chosen are the answers to a prompt that takes many.
func chosen(answer string) []string {
	return slices.DeleteFunc(strings.Split(answer, ","), func(s string) bool { return s == "" })
}

// label is how an option is shown.
func (o Option) label() string {
	if o.Label == "" {
		return Visible(o.Value)
	}
	return Visible(o.Label)
}

// Visible returns text in which nothing acts on a terminal, in one line.
func Visible(text string) string {
	var b bytes.Buffer
	w := visible.New(&b)
	_, _ = io.WriteString(w, text) // into memory
	_ = w.Flush()
	return strings.NewReplacer("\r\n", `\r\n`, "\n", `\n`, "\t", `\t`).Replace(b.String())
}
