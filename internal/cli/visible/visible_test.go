package visible

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func shown(t testing.TB, chunk int, text string) string {
	t.Helper()
	var out bytes.Buffer
	v := New(&out)
	for data := []byte(text); len(data) > 0; {
		n := min(chunk, len(data))
		if got, err := v.Write(data[:n]); got != n || err != nil {
			t.Fatal(got, err)
		}
		data = data[n:]
	}
	if err := v.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestNothingOfASandboxReachesTheTerminal: attack 44. Escape sequences, as one byte or two, titles, clipboards, text that is
// reordered or covered by what follows.
func TestNothingOfASandboxReachesTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\n":                  "plain\ttext\n",
		"dos\r\n":                        "dos\r\n",
		"grüße, 世界 🎉\n":                  "grüße, 世界 🎉\n",
		"\x1b[2J\x1b[H":                  `\x1b[2J\x1b[H`,
		"\x1b]0;title\x07":               `\x1b]0;title\x07`,
		"\x1b]52;c;ZXZpbA==\x1b\\":       `\x1b]52;c;ZXZpbA==\x1b\`,
		"\x9b31mred":                     `\x9b31mred`,
		"\u009b31mred":                   `\u009b31mred`,
		"real line\rfake line\n":         "real line\\rfake line\n",
		"backspace\b\b\x7f":              `backspace\x08\x08\x7f`,
		"a\u202eb\u2066c\u200f":          `a\u202eb\u2066c\u200f`,
		"broken \xff\xc3(\xe2\x82":       `broken \xff\xc3(\xe2\x82`,
		"end\r":                          `end\r`,
		"line\u2028separator\u2029\x00.": `line\u2028separator\u2029\x00.`,
	} {
		for chunk := 1; chunk <= len(text); chunk++ {
			if got := shown(t, chunk, text); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", text, chunk, got, want)
			}
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("\x1b[31m\xff\r\n", 1)
	f.Fuzz(func(t *testing.T, text string, chunk int) {
		got := shown(t, max(1, chunk), text)
		if got != shown(t, max(1, len(text)), text) {
			t.Errorf("%q depends on how it was cut", text)
		}
		if !utf8.ValidString(got) || strings.ContainsAny(strings.ReplaceAll(got, "\r\n", "\n"), "\r\x1b\x07\b\x7f\x00\u009b\u009d\u202e") {
			t.Errorf("%q is shown as %q", text, got)
		}
	})
}
