package wizard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// lines asks prompts with plain lines, answered by a text.
func lines(prompts []*Prompt, text string) (string, error) {
	var out bytes.Buffer
	err := (&Terminal{In: strings.NewReader(text), Out: &out, Lines: true}).Ask(context.Background(), prompts)
	return out.String(), err
}

func TestLines(t *testing.T) {
	three := []Option{{Value: "", Label: "(none)"}, {Value: "a"}, {Value: "b"}}
	for name, tt := range map[string]struct {
		prompt Prompt
		text   string
		want   string
		err    bool
		shows  string
	}{
		"text":                          {Prompt{}, "x y\n", "x y", false, ""},
		"the offer":                     {Prompt{Answer: "x"}, "\n", "x", false, "empty: x"},
		"none in place of the offer":    {Prompt{Answer: "x"}, "-\n", "", false, ""},
		"the last line without a break": {Prompt{}, "x", "x", false, ""},
		"no line":                       {Prompt{Answer: "x"}, "", "x", true, ""},
		"an option":                     {Prompt{Options: three}, "3\n", "b", false, "  3. b"},
		"the option that is nothing":    {Prompt{Options: three, Answer: "a"}, "1\n", "", false, ""},
		"no option":                     {Prompt{Options: three}, "4\n2\n", "a", false, `Not possible: "4" is no number from 1 to 3`},
		"two of one":                    {Prompt{Options: three}, "2,3\n2\n", "a", false, "Not possible"},
		"many":                          {Prompt{Options: three, Many: true}, "3, 2,3\n", "b,a", false, ""},
		"none of many":                  {Prompt{Options: three, Many: true, Answer: "a"}, "-\n", "", false, ""},
		"refused, then gone":            {Prompt{Check: func(string) error { return errors.New("no\x1b[2J") }}, "x\n", "", true, `Not possible: no\x1b[2J`},
		"hostile":                       {Prompt{Title: "\x1b]0;x\a", Doc: "\u202e", Answer: "a\nb", Options: nil}, "\n", "a\nb", false, `\x1b]0;x\x07`},
	} {
		t.Run(name, func(t *testing.T) {
			p := tt.prompt
			out, err := lines([]*Prompt{&p}, tt.text)
			if (err != nil) != tt.err || err != nil && !errors.Is(err, ErrAborted) {
				t.Fatalf("error %v", err)
			}
			if p.Answer != tt.want {
				t.Errorf("answer %q, want %q", p.Answer, tt.want)
			}
			if !strings.Contains(out, tt.shows) || strings.ContainsAny(out, "\x1b\a\u202e") {
				t.Errorf("shows %q", out)
			}
		})
	}
}

func TestLinesEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if err := (&Terminal{In: r, Out: &bytes.Buffer{}, Lines: true}).Ask(ctx, []*Prompt{{}}); !errors.Is(err, ErrAborted) {
		t.Error(err)
	}
}

// TestQuote: a shell reads of a quoted word what it was, and a terminal sees nothing but text.
func TestQuote(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[ -~\x01-\x1f\x7f-\x9f\x{202e}é]{0,8}`), 1, 4).Draw(t, "words")
		line := Command(words)
		if Visible(line) != line {
			t.Fatalf("%q is not only visible", line)
		}
		out, err := exec.Command(bash, "-c", `printf '%s\0' `+line).Output()
		if err != nil || string(out) != strings.Join(words, "\x00")+"\x00" {
			t.Fatalf("%s gives %q, want %q: %v", line, out, words, err)
		}
	})
}
