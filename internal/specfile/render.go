package specfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core/fault"
)

// maxExcerpt is how much of a source line is shown, in characters.
const maxExcerpt = 120

// Render shows the violations of err in the text that they were found in: file, line, column, the line itself and a caret below the place.
// Violations without a position are listed behind. It returns "" when err has none.
func Render(name string, data []byte, err error) string {
	f := fault.From(err)
	if f == nil || len(f.Fields) == 0 {
		return ""
	}
	lines := bytes.Split(data, []byte("\n"))
	var b strings.Builder
	for _, v := range f.Fields {
		what := v.Description
		if v.Path != "" {
			what = v.Path + ": " + what
		}
		if v.Line == 0 {
			fmt.Fprintf(&b, "%s: %s\n", name, what)
			continue
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", name, v.Line, v.Column, what)
		if v.Line <= len(lines) {
			excerpt(&b, v, string(bytes.TrimRight(lines[v.Line-1], "\r")))
		}
	}
	return b.String()
}

// excerpt writes the line, shortened around the column, and the caret. Tabs are shown as one space each so that the caret stands right.
func excerpt(b *strings.Builder, v fault.Field, line string) {
	line = strings.Map(func(r rune) rune {
		if r == '\t' || r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	col := max(v.Column, 1)
	runes := []rune(line)
	if len(runes) > maxExcerpt {
		from := min(max(col-maxExcerpt/2, 0), len(runes)-maxExcerpt)
		runes = runes[from : from+maxExcerpt]
		col -= from
	}
	gutter := fmt.Sprintf("%5d | ", v.Line)
	fmt.Fprintf(b, "%s%s\n", gutter, string(runes))
	fmt.Fprintf(b, "%s%s^\n", strings.Repeat(" ", utf8.RuneCountInString(gutter)-2)+"| ", strings.Repeat(" ", max(min(col, len(runes)+1)-1, 0)))
}
