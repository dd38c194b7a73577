package specfile_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

func TestParseAll(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		lines            []int
	}{
		{"one", "a: 1\n", `{"a":1}`, []int{1}},
		{"several", "# c\na: 1\n---\nb: 2\n---\n# nothing\n--- {c: 3}\n...\n---", `{"a":1} {"b":2} {"c":3}`, []int{2, 4, 7}},
		{"mark in a text", "a: |\n  x\n  ---\n---x: 1\n", `{"---x":1,"a":"x\n---\n"}`, []int{1}},
		{"list", "- {a: 1}\n- {b: 2}\n", `{"a":1} {"b":2}`, []int{1, 2}},
		{"JSON", `{"a": "\n---\n"}`, `{"a":"\n---\n"}`, []int{1}},
		{"JSON list", "[\n{\"a\": 1},\n{\"b\": 2}]", `{"a":1} {"b":2}`, []int{2, 3}},
		{"Windows", "a: 1\r\n---\r\nb: 2\r\n", `{"a":1} {"b":2}`, []int{1, 3}},
		{"nothing", "---\n# x\n", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := specfile.ParseAll([]byte(c.text), 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, n := range list {
				got = append(got, string(n.JSON()))
				if i < len(c.lines) && n.Line != c.lines[i] {
					t.Errorf("document %d is in line %d, want %d", i, n.Line, c.lines[i])
				}
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
	_, err := specfile.ParseAll([]byte("a: 1\n---\nb:\n\tc: 1\n"), 10)
	if f := fault.From(err); !fault.Is(err, fault.Invalid) || len(f.Fields) != 1 || f.Fields[0].Line != 4 || f.Fields[0].Column != 1 {
		t.Errorf("got %+v", f)
	}
	if _, err := specfile.ParseAll([]byte(strings.Repeat("---\na: 1\n", 11)), 10); !fault.HasReason(err, fault.ReasonLimitExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := specfile.ParseAll([]byte("a: 1\n---\nb: "+strings.Repeat("x", tree.MaxDocument)), 10); !fault.HasReason(err, fault.ReasonLimitExceeded) {
		t.Errorf("got %v", err)
	}
}
