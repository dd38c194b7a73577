package cli

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	var out bytes.Buffer
	s := &session{Stdio: Stdio{Out: &out}}
	s.table(table{head: []string{"NAME", "", "WHY"}, wide: []string{"MORE"}, rows: [][]string{{"a", "", "x\ny", "hidden"}, {"bücher\x1b", "z"}, {"c", "zzzz", "x"}}})
	want := "NAME             WHY\na                x y\nbücher?   z\nc         zzzz   x\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
