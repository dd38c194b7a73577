package tree_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

func TestParseJSON(t *testing.T) {
	for text, want := range map[string]string{
		` null `: `null`, `true`: `true`, `false`: `false`, `"a"`: `"a"`, `[]`: `[]`, `{}`: `{}`,
		"{\"b\" : 1 ,\n\t\"a\": [ 1 , {} , \"x\" ]}\r\n": `{"a":[1,{},"x"],"b":1}`,
		`"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"`:     `"\"\\/\b\f\n\r\tAé😀"`,
		`"\u001f"`:   `"\u001f"`,
		`"é😀\u007f"`: "\"é😀\u007f\"",
		`-0`:         `0`, `-0.0`: `0`, `1.0`: `1`, `1e3`: `1000`, `1.50`: `1.5`, `1E-7`: `1e-07`, `123456789012345678`: `123456789012345678`,
		`18446744073709551615`: `18446744073709551615`, `1e20`: `1e+20`, `0.1`: `0.1`, `99999999999999999999`: `1e+20`,
	} {
		n, err := tree.ParseJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(n.JSON()); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		again, err := tree.ParseJSON(n.JSON())
		if err != nil || string(again.JSON()) != want {
			t.Errorf("%s: canonical text is not stable: %s, %v", text, again.JSON(), err)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "1:1 expected a value, got the end of the text",
		"nul":                   "1:1 expected a value, got 'n'",
		"{\"a\":1,\n \"a\":2}":  `2:2 key "a" is given twice, first at line 1, column 2`,
		`{"é":"é",x}`:           "1:10 expected a key in double quotes, got 'x'",
		"[1,\n2\n3]":            "3:1 expected , or ] in a list, got '3'",
		"[1,]":                  "1:4 expected a value, got ']'",
		`{"a":1,}`:              "1:8 expected a key in double quotes, got '}'",
		`{"a" 1}`:               `1:6 expected : after key "a", got '1'`,
		`{"a":1 "b"}`:           "1:8 expected , or } in an object, got '\"'",
		"1 2":                   "1:3 expected the end of the text, got '2'",
		"// a":                  "1:1 expected a value, got '/'",
		"'a'":                   "1:1 expected a value, got '\\''",
		"01":                    "1:1 a number does not start with 0",
		"-":                     "1:2 expected a digit, got the end of the text",
		"1.":                    "1:3 expected a digit after the point, got the end of the text",
		"1e+":                   "1:4 expected a digit in the exponent, got the end of the text",
		"1e999":                 "1:1 the number is out of range",
		"NaN":                   "1:1 expected a value, got 'N'",
		"+1":                    "1:1 expected a value, got '+'",
		`"a`:                    "1:1 the string has no end",
		`"a\`:                   "1:3 the string has no end",
		`"\"`:                   "1:1 the string has no end",
		"\"a\nb\"":              `1:3 control character '\n' in a string; write it as an escape`,
		`"\x"`:                  "1:2 unknown escape",
		`"\u12"`:                "1:2 expected four hexadecimal digits after \\u",
		`"\ud83d"`:              "1:2 half of a surrogate pair",
		`"\ude00\ud83d"`:        "1:2 half of a surrogate pair",
		`"\u0000"`:              "1:2 the NUL character is not allowed",
		"[\"\xff\"]":            "1:3 not valid UTF-8",
		"\xef\xbb\xbf{}":        "1:1 the text starts with a byte order mark; save it as UTF-8 without one",
		strings.Repeat("[", 70): "1:66 nested deeper than 64",
	} {
		_, err := tree.ParseJSON([]byte(text))
		if got := place(err); got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
		if !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonSyntax) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// place returns position and text of the only violation.
func place(err error) string {
	if f := fault.From(err).Fields; len(f) == 1 {
		return fmt.Sprintf("%d:%d %s", f[0].Line, f[0].Column, f[0].Description)
	}
	return fmt.Sprint(err)
}

func TestParseJSONLimits(t *testing.T) {
	if _, err := tree.ParseJSON(make([]byte, tree.MaxDocument+1)); !fault.HasReason(err, fault.ReasonLimitExceeded) {
		t.Errorf("size: %v", err)
	}
	if _, err := tree.ParseJSON([]byte("[" + strings.Repeat("0,", tree.MaxNodes) + "0]")); !strings.Contains(place(err), "more than 100000 values") {
		t.Errorf("nodes: %v", err)
	}
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `"k%d":0,`, i)
	}
	if _, err := tree.ParseJSON([]byte("{" + b.String() + `"k17":1}`)); !strings.Contains(place(err), `key "k17" is given twice, first at line 1, column 128`) {
		t.Errorf("duplicate among many: %v", err)
	}
}

// TestPositions: every node and key knows where it stood, in characters.
func TestPositions(t *testing.T) {
	n, err := tree.ParseJSON([]byte("{\n  \"é\": [true, {\"x\": null}],\n\t\"b\":\"y\"}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var walk func(name string, n *tree.Node)
	walk = func(name string, n *tree.Node) {
		got = append(got, fmt.Sprintf("%s %s %d:%d", name, n.Kind, n.Line, n.Col))
		for _, item := range n.Items {
			walk("-", item)
		}
		for _, k := range n.Keys {
			walk(fmt.Sprintf("%s@%d:%d", k.Name, k.Line, k.Col), k.Value)
		}
	}
	walk(".", n)
	want := []string{
		". an object 1:1", "é@2:3 a list 2:8", "- a boolean 2:9", "- an object 2:15", "x@2:16 null 2:21", "b@3:2 a string 3:6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNode(t *testing.T) {
	n, err := tree.ParseJSON([]byte(`{"a":[1,1.5,true,null,"x"],"b":{"c":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": []any{int64(1), 1.5, true, nil, "x"}, "b": map[string]any{"c": map[string]any{}}}
	if diff := cmp.Diff(want, n.Any()); diff != "" {
		t.Error(diff)
	}
	if n.Depth() != 3 || n.Get("a").Depth() != 2 || n.Get("b").Get("c") == nil || n.Get("z").Get("y") != nil {
		t.Errorf("depth %d", n.Depth())
	}
	n.Place(7, 8)
	if c := n.Get("b").Keys[0]; c.Line != 7 || c.Col != 8 || c.Value.Line != 7 || n.Get("a").Items[0].Col != 8 {
		t.Error("Place left a position")
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"container_image", "cpu_limit", "cpu_request", "tags", "pod"}
	for name, want := range map[string]string{
		"cpu_limt": "cpu_limit", "cpulimit": "cpu_limit", "CPU-LIMIT": "cpu_limit", "container_imgae": "container_image",
		"image": "", "tag": "tags", "gats": "", "x": "", "pods": "pod", "": "", strings.Repeat("a", 100): "", "request": "",
	} {
		if got := tree.Suggest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// FuzzParseJSON: no input panics; what is accepted has one canonical text, and positions inside the text.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e3,"\ud83d\ude00",null,true]}`, `{"a":1,"a":2}`, "[[[", "\"\xff\"", `1e999`, "{\"\\u0061\":1,\"a\":2}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := tree.ParseJSON(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v is not Invalid", err)
			}
			for _, v := range fault.From(err).Fields {
				if v.Line < 1 || v.Column < 1 || v.Line > len(text)+1 || v.Column > len(text)+1 {
					t.Fatalf("position %d:%d", v.Line, v.Column)
				}
			}
			return
		}
		once := n.JSON()
		again, err := tree.ParseJSON(once)
		if err != nil {
			t.Fatalf("%s: canonical text %s: %v", text, once, err)
		}
		if string(again.JSON()) != string(once) {
			t.Fatalf("%s, then %s", once, again.JSON())
		}
	})
}
