package specfile_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

func TestParseYieldsValuesWithPositions(t *testing.T) {
	n, err := specfile.Parse([]byte("a: 1\nb:\n  c: [x, null, true, 2.5]\n  \"d\": 0x10\ne: 2020-01-02\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(n.JSON()), `{"a":1,"b":{"c":["x",null,true,2.5],"d":16},"e":"2020-01-02"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c := n.Get("b").Get("c")
	if c.Line != 3 || c.Col != 6 {
		t.Errorf("c is at %d:%d, want 3:6", c.Line, c.Col)
	}
}

func TestParseRefuses(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"duplicate key", "a: 1\nb: 2\na: 3\n", "given twice"},
		{"duplicate key in JSON", `{"a": 1, "a": 2}`, "twice"},
		{"trailing garbage in JSON", `{"a": 1} x`, "end of the text"},
		{"two documents", "a: 1\n---\nb: 2\n", "second document"},
		{"alias bomb", bomb, "aliases"},
		{"alias cycle", "a: &a [*a]\n", "contains itself"},
		{"merge key", "base: &b {x: 1}\na:\n  <<: *b\n", "merge keys"},
		{"not a number", "a: .nan\n", "not a number"},
		{"too large an integer", "a: 99999999999999999999\n", "64 bits"},
		{"tab", "a:\n\tb: 1\n", "a tab in the indentation"},
		{"tab behind spaces", "a:\n  b: 1\n  \tc: 1\n", "a tab in the indentation"},
		{"tag", "a: !!binary aGk=\n", "tag"},
		{"syntax", "a: [1, 2\n", "YAML"},
		{"too large a file", "a: " + strings.Repeat("x", tree.MaxDocument), "limit"},
		{"too deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := specfile.Parse([]byte(c.text))
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got %v, want an Invalid fault", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to say %q", err, c.want)
			}
		})
	}
}

func TestRenderPointsAtThePlace(t *testing.T) {
	text := []byte("spec:\n\tx: 1\n  cpu_limt: \"2\"\n")
	f := fault.Invalidf(fault.ReasonFieldUnknown, "invalid")
	f.Fields = []fault.Field{{Path: "spec.cpu_limt", Description: `did you mean "cpu_limit"?`, Line: 3, Column: 3}, {Path: "x", Description: "no position"}}
	want := "p.yaml:3:3: spec.cpu_limt: did you mean \"cpu_limit\"?\n    3 |   cpu_limt: \"2\"\n      |   ^\np.yaml: x: no position\n"
	if got := specfile.Render("p.yaml", text, f); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRenderKeepsControlCharactersOut(t *testing.T) {
	f := fault.Invalidf("X", "x")
	f.Fields = []fault.Field{{Description: "d", Line: 1, Column: 500}}
	out := specfile.Render("f", []byte("\x1b[31m"+strings.Repeat("y", 1000)), f)
	if strings.Contains(out, "\x1b") || len(out) > 400 {
		t.Errorf("got %q", out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a: 1\n")
	f.Add(`{"a": [1, 2, {"b": null}]}`)
	f.Add("a: &x [1]\nb: *x\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := specfile.Parse([]byte(text))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("not an Invalid fault: %v", err)
			}
			_ = specfile.Render("f", []byte(text), err)
			return
		}
		if again, err := specfile.Parse(n.JSON()); err == nil && string(again.JSON()) != string(n.JSON()) {
			t.Fatalf("%q: %s becomes %s", text, n.JSON(), again.JSON())
		}
	})
}
