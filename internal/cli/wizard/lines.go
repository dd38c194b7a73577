package wizard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxLine is the longest answer, in bytes.
const maxLine = 1 << 20

// lines asks with plain lines. huh has such a mode, too; but it does not tell the end of its input from an empty answer, cannot drop an
// answer that is offered, and leaves out what a question means.
func (t *Terminal) lines(ctx context.Context, prompts []*Prompt) error {
	if t.reader == nil {
		t.reader = newLineReader(t.In)
	}
	answers := make([]string, len(prompts))
	for i, p := range prompts {
		answer, err := t.ask(ctx, p)
		if err != nil {
			return err
		}
		answers[i] = answer
		p.Answer = answer // Later prompts are checked beside it.
	}
	return nil
}

// ask asks one prompt until its answer is right.
func (t *Terminal) ask(ctx context.Context, p *Prompt) (string, error) {
	fmt.Fprintf(t.Out, "\n%s\n", Visible(p.Title))
	for _, line := range p.about() {
		fmt.Fprintln(t.Out, line)
	}
	for i, o := range p.Options {
		fmt.Fprintf(t.Out, "  %d. %s\n", i+1, o.label())
	}
	for {
		fmt.Fprint(t.Out, p.ask())
		text, err := t.reader.next(ctx)
		if err != nil {
			fmt.Fprintln(t.Out)
			return "", err
		}
		answer, err := p.read(strings.TrimSpace(text))
		if err == nil {
			err = p.check(answer)
		}
		if err == nil {
			return answer, nil
		}
		fmt.Fprintf(t.Out, "Not possible: %s\n", Visible(err.Error()))
	}
}

// about says what the answer means, and which flag gives the same.
func (p *Prompt) about() []string {
	var out []string
	if p.Doc != "" {
		out = append(out, Visible(p.Doc))
	}
	if p.Example != "" {
		out = append(out, "Example: "+Visible(p.Example))
	}
	return append(out, "Flag: "+Visible(p.Flag))
}

// ask is what stands in front of the answer.
func (p *Prompt) ask() string {
	what := "Answer"
	switch {
	case p.Many:
		what = fmt.Sprintf("Numbers from 1 to %d, with commas", len(p.Options))
	case len(p.Options) > 0:
		what = fmt.Sprintf("A number from 1 to %d", len(p.Options))
	}
	if p.Answer == "" {
		return what + ": "
	}
	now := Visible(p.Answer)
	for _, o := range p.Options {
		if o.Value == p.Answer {
			now = o.label()
		}
	}
	if len(p.Options) > 0 && !p.Many {
		return fmt.Sprintf("%s (empty: %s): ", what, now)
	}
	return fmt.Sprintf("%s (empty: %s; %s: none): ", what, now, none)
}

// read is the answer that a line gives.
func (p *Prompt) read(line string) (string, error) {
	switch {
	case line == "" && (p.Answer != "" || !slices.ContainsFunc(p.Options, func(o Option) bool { return o.Value == "" })):
		if p.Answer == "" && len(p.Options) > 0 && !p.Many {
			return "", fmt.Errorf("choose a number from 1 to %d", len(p.Options))
		}
		return p.Answer, nil
	case line == "", line == none && (p.Many || len(p.Options) == 0):
		return "", nil
	case len(p.Options) == 0:
		return line, nil
	}
	var out []string
	for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > len(p.Options) || !p.Many && len(out) == 1 {
			return "", fmt.Errorf("%q is no %s", line, strings.ToLower(p.want()))
		}
		if v := p.Options[n-1].Value; !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return strings.Join(out, ","), nil
}

func (p *Prompt) want() string {
	if p.Many {
		return fmt.Sprintf("list of numbers from 1 to %d", len(p.Options))
	}
	return fmt.Sprintf("number from 1 to %d", len(p.Options))
}

// lineReader reads lines so that the end of a context is not waited for behind a person.
type lineReader struct {
	scanner *bufio.Scanner
	got     chan string
}

func newLineReader(in io.Reader) *lineReader {
	l := &lineReader{scanner: bufio.NewScanner(in), got: make(chan string)}
	l.scanner.Buffer(nil, maxLine)
	return l
}

func (l *lineReader) next(ctx context.Context) (string, error) {
	end := make(chan struct{})
	go func() { // A read cannot be called off: when the context ends it outlives the question, and the process ends with it.
		if !l.scanner.Scan() {
			close(end)
			return
		}
		select {
		case l.got <- l.scanner.Text():
		case <-ctx.Done():
		}
	}()
	select {
	case line := <-l.got:
		return line, nil
	case <-end:
		return "", ErrAborted
	case <-ctx.Done():
		return "", ErrAborted
	}
}
