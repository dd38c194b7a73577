package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

// Exit codes of commands other than run and exec, which return the code of what they ran.
const (
	exitInternal     = 1
	exitInvalid      = 2
	exitAuth         = 4
	exitNotFound     = 5
	exitPrecondition = 6
	exitExhausted    = 7
	exitUnavailable  = 8
	exitInterrupted  = 130
)

// Exit codes of run and exec for what is not the command's own.
const (
	exitTimeout = 124
	exitBerm    = 125
	// exitSignal and the number of a signal are the code of what it ended.
	exitSignal = 128
)

// exitError carries the code of a command that was run; nothing is printed for it.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// runError wraps an error of run and exec: Berm failed, not the command.
type runError struct{ err error }

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// asRun marks err as Berm's own, unless it is the command's exit code.
func asRun(err error) error {
	var code *exitError
	var run *runError
	if err == nil || errors.As(err, &code) || errors.As(err, &run) {
		return err
	}
	return &runError{err}
}

// renderedError is an error whose violations were already shown in the text of the file.
type renderedError struct {
	err  error
	text string
}

func (e *renderedError) Error() string { return e.err.Error() }
func (e *renderedError) Unwrap() error { return e.err }

var exitCodes = map[fault.Code]int{
	fault.Internal:        exitInternal,
	fault.Invalid:         exitInvalid,
	fault.Unauthenticated: exitAuth,
	fault.Denied:          exitAuth,
	fault.NotFound:        exitNotFound,
	fault.Exists:          exitNotFound,
	fault.Conflict:        exitPrecondition,
	fault.Precondition:    exitPrecondition,
	fault.Exhausted:       exitExhausted,
	fault.OutOfRange:      exitPrecondition,
	fault.Unavailable:     exitUnavailable,
	fault.Deadline:        exitUnavailable,
	fault.Canceled:        exitInterrupted,
	fault.Unimplemented:   exitPrecondition,
}

// exit prints err and returns the exit code.
func (s *session) exit(err error) int {
	if err == nil {
		return 0
	}
	var code *exitError
	if errors.As(err, &code) {
		return code.code
	}
	s.print(err)
	var run *runError
	switch {
	case errors.As(err, &run) && fault.HasReason(err, fault.ReasonCommandTimeout):
		return exitTimeout
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &run):
		return exitBerm
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return exitCodes[f.Code]
	}
	return exitInternal
}

func (s *session) print(err error) {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(s.Err, "interrupted")
		return
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		fmt.Fprintln(s.Err, "error:", clean(err.Error()))
		return
	}
	var rendered *renderedError
	if errors.As(err, &rendered) {
		fmt.Fprint(s.Err, clean(rendered.text))
	}
	fmt.Fprintln(s.Err, "error:", clean(headline(f)))
	if rendered == nil {
		s.printFields(f)
	}
	if r, ok := f.Detail.(*bermv1.Refusal); ok {
		s.printRefusal(r)
	}
	if f.Code == fault.Internal && f.Cause != nil {
		fmt.Fprintln(s.Err, "  cause:", clean(f.Cause.Error()))
	}
	if f.RetryAfter > 0 {
		fmt.Fprintf(s.Err, "  A retry in %s may succeed.\n", f.RetryAfter)
	}
	switch {
	case f.Code == fault.Unauthenticated && s.tokenless: // the server's hint is about headers
		fmt.Fprintln(s.Err, "hint: Set BERM_TOKEN, or make a context. On the server's machine its user needs neither.")
	case f.Hint != "" && !explained(f):
		fmt.Fprintln(s.Err, "hint:", clean(f.Hint))
	}
}

// explained reports that the nearest request is shown, which the hint would only repeat.
func explained(f *fault.Error) bool {
	r, ok := f.Detail.(*bermv1.Refusal)
	return ok && len(r.GetChanges()) > 0
}

// headline is the message, without the reasons where a list of candidates with theirs follows.
func headline(f *fault.Error) string {
	if r, ok := f.Detail.(*bermv1.Refusal); ok && len(r.GetCandidates()) > 0 {
		text, _, _ := strings.Cut(f.Message, ": ")
		return text
	}
	return f.Message
}

// printFields lists the violations; a refusal shows the same with their candidates.
func (s *session) printFields(f *fault.Error) {
	if _, ok := f.Detail.(*bermv1.Refusal); ok {
		return
	}
	var shown []string
	for _, v := range f.Fields {
		text := bodyPosition.ReplaceAllString(v.Description, "")
		if strings.Contains(f.Message, text) {
			continue // said already
		}
		if v.Path != "" {
			text = s.fieldName(v.Path) + ": " + text
		}
		if !slices.Contains(shown, text) { // one flag may stand for two fields
			shown = append(shown, text)
			fmt.Fprintf(s.Err, "  %s\n", clean(text))
		}
	}
}

// printRefusal shows every candidate, its reasons, and the nearest request that would pass.
func (s *session) printRefusal(r *bermv1.Refusal) {
	for _, c := range r.GetCandidates() {
		name := "runner " + c.GetRunnerId()
		if c.GetProfileName() != "" {
			name += ", profile " + c.GetProfileName()
		}
		fmt.Fprintf(s.Err, "  %s:\n", clean(name))
		for _, reason := range c.GetReasons() {
			fmt.Fprintf(s.Err, "    - %s\n", clean(reasonText(reason)))
		}
	}
	if n := r.GetOmittedCandidates(); n > 0 {
		fmt.Fprintf(s.Err, "  and %d more\n", n)
	}
	if names := r.GetAdmittingProfiles(); len(names) > 0 {
		fmt.Fprintf(s.Err, "  The request names no profile; these are bound too and would admit it: %s\n", clean(strings.Join(names, ", ")))
	}
	if len(r.GetChanges()) == 0 {
		return
	}
	fmt.Fprintln(s.Err, "  The nearest request that would pass changes:")
	for _, c := range s.asFlags(r.GetChanges()) {
		from, to := changeText(c.GetFrom()), changeText(c.GetTo())
		switch {
		case to == "":
			fmt.Fprintf(s.Err, "    - %s: leave out (was %s)\n", c.GetPath(), clean(from))
		case from == "":
			fmt.Fprintf(s.Err, "    - %s: %s\n", c.GetPath(), clean(to))
		default:
			fmt.Fprintf(s.Err, "    - %s: %s (was %s)\n", c.GetPath(), clean(to), clean(from))
		}
	}
}

// changeText is valueText with nothing for a field that is not there, which the wire gives as null.
func changeText(v *structpb.Value) string {
	if _, null := v.GetKind().(*structpb.Value_NullValue); null {
		return ""
	}
	return valueText(v)
}

func reasonText(r *bermv1.Reason) string {
	text := r.GetMessage()
	if text == "" {
		text = r.GetCode()
	}
	if o := r.GetLimitOrigin(); o.GetObject() != "" && !strings.Contains(text, o.GetObject()) {
		text += " (set by " + originText(o) + ")"
	}
	return text
}

func originText(o *bermv1.Origin) string {
	if o.GetRevision() > 0 {
		return fmt.Sprintf("%s, revision %d", o.GetObject(), o.GetRevision())
	}
	return o.GetObject()
}

// clean keeps control characters of a sandbox or of a hostile server out of the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if (r < 0x20 && r != '\n' && r != '\t') || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
