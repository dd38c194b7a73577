package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/cli/wizard"
	"github.com/bermhq/berm/internal/core/fault"
)

// asking says whether a command asks for what its flags do not say, and how.
type asking struct{ always, never, lines bool }

// askingFlags gives a command its wizard.
func (s *session) askingFlags(c *cobra.Command) {
	c.Flags().BoolVarP(&s.asking.always, "interactive", "i", false, "ask for what the flags do not say, also where they say enough")
	c.Flags().BoolVar(&s.asking.never, "no-input", false, "ask nothing, also on a terminal")
	c.Flags().BoolVar(&s.asking.lines, "accessible", false, "ask with plain lines, for screen readers (BERM_ACCESSIBLE); so it is where TERM is dumb")
	exclusive(c, "interactive", "no-input", "file")
}

// asks reports whether the wizard is to ask. enough: the flags say what there is to do.
func (s *session) asks(enough bool) (bool, error) {
	in, ok := s.In.(*os.File)
	out, seen := s.Err.(*os.File)
	terminal := ok && seen && isTerminal(in) && isTerminal(out)
	if s.asking.always && !terminal {
		return false, fault.Invalidf("USAGE", "--interactive needs a terminal at standard input and standard error")
	}
	return terminal && !s.asking.never && (s.asking.always || !enough), nil
}

func (s *session) askingTerminal() *wizard.Terminal {
	env := s.Getenv("BERM_ACCESSIBLE")
	return &wizard.Terminal{In: s.In, Out: s.Err, Lines: s.asking.lines || env != "" && env != "0" && env != "false" || s.Getenv("TERM") == "dumb"}
}

// wizardRun is an edit that is asked for, looked at, and made.
type wizardRun struct {
	// ask asks, from the second time on with the answers of the last.
	ask func(ctx context.Context, t *wizard.Terminal) error
	// words are the command line that says the same as the answers.
	words func() []string
	// send makes the edit, or, where the session previews, says what it would do.
	send func(ctx context.Context) (json.RawMessage, error)
	// reload reads the object again that was changed by somebody else; the answers stay.
	reload func(ctx context.Context) error
	// note stands below what the edit would do.
	note func() string
}

// What may follow on a preview.
const (
	doIt      = "do"
	askAgain  = "again"
	stopAsked = "stop"
)

// wizard asks until an edit is made or given up. Nothing is written before it was shown and agreed to.
func (s *session) wizard(ctx context.Context, w *wizardRun) (json.RawMessage, error) {
	t := s.askingTerminal()
	for next := askAgain; ; {
		if next == askAgain {
			if err := w.ask(ctx, t); err != nil {
				return nil, s.givenUp(err, w)
			}
		}
		possible := s.showPreview(ctx, w)
		if s.preview && possible {
			s.sayWords(w)
			return nil, errPreviewed
		}
		var err error
		if next, err = s.agree(ctx, t, possible); err != nil {
			return nil, s.givenUp(err, w)
		}
		switch next {
		case stopAsked:
			return nil, s.givenUp(wizard.ErrAborted, w)
		case askAgain:
			continue
		}
		raw, err := w.send(ctx)
		if err == nil {
			s.sayWords(w)
			return raw, nil
		}
		s.print(err)
		if fault.Is(err, fault.Conflict) && w.reload != nil {
			fmt.Fprintln(s.Err, "It was changed by somebody else meanwhile. This is what your answers would do to it now:")
			if err := w.reload(ctx); err != nil {
				return nil, s.givenUp(err, w)
			}
		}
	}
}

// showPreview shows what the answers would do, and reports whether that is possible.
func (s *session) showPreview(ctx context.Context, w *wizardRun) bool {
	out, format, preview := s.Out, s.output, s.preview
	s.Out, s.output, s.preview = s.Err, "table", true // The answer to the command is yet to come.
	defer func() { s.Out, s.output, s.preview = out, format, preview }()
	fmt.Fprintln(s.Err)
	_, err := w.send(ctx)
	if errors.Is(err, errPreviewed) {
		if w.note != nil {
			fmt.Fprintln(s.Err, clean(w.note()))
		}
		return true
	}
	s.print(err)
	return false
}

// agree asks what to do about what was shown.
func (s *session) agree(ctx context.Context, t *wizard.Terminal, possible bool) (string, error) {
	p := &wizard.Prompt{Title: "Make this edit?", Flag: "--no-input does not ask", Answer: stopAsked, Options: []wizard.Option{
		{Value: doIt, Label: "Yes, make it"},
		{Value: askAgain, Label: "Change the answers"},
		{Value: stopAsked, Label: "No, change nothing"},
	}}
	if !possible {
		p.Title, p.Answer, p.Options = "This cannot be done. What now?", askAgain, p.Options[1:]
	}
	err := t.Ask(ctx, []*wizard.Prompt{p})
	return p.Answer, err
}

// sayWords prints the command that says the same.
func (s *session) sayWords(w *wizardRun) {
	fmt.Fprintf(s.Err, "As a command: %s\n", wizard.Command(w.words()))
}

// givenUp is the error of an edit that is not made. What was answered is not lost.
func (s *session) givenUp(err error, w *wizardRun) error {
	if !errors.Is(err, wizard.ErrAborted) {
		if words := w.words(); words != nil {
			s.sayWords(w)
		}
		return err
	}
	e := fault.New(fault.Canceled, "CANCELED", "nothing was changed")
	if words := w.words(); words != nil {
		e = e.WithHint("What was answered, as a command: %s", wizard.Command(words))
	}
	return e
}
