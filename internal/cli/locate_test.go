package cli

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/specfile"
)

const runnerText = `identity: {zone: a}
profile_bindings:
  - profile: agent
    overrides:
      pod:
        metadata:
          annotations: {a.b/c: "1"}
        spec: {hostNetwrk: true}
  - isDefault: maybe
    overrides_json: '{"tags": 3}'
`

func TestLocate(t *testing.T) {
	root, err := specfile.Parse([]byte(runnerText))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path      string
		key       bool
		line, col int
	}{
		{"runner.identity.zone", false, 1, 18},
		{"identity.zone", true, 1, 12},
		{"identity.cluster_name", false, 1, 11}, // not there: the object that lacks it
		{"profile_bindings", true, 2, 1},
		{"profileBindings[0].profile_template_id", false, 3, 14},
		{"runner.profile_bindings[0].overrides_json.pod.metadata.annotations[a.b/c]", true, 7, 25},
		{"profile_bindings[0].overrides_json.pod.spec.hostNetwrk", true, 8, 16},
		{"profile_bindings[1].is_default", false, 9, 16},
		{"profile_bindings[1].overrides_json.tags", false, 10, 21}, // inside a string: the string
		{"profile_bindings[7].profile_name", false, 3, 3},
		{"managed_spec", false, 0, 0},
		{"", false, 0, 0},
	} {
		if line, col := locate(root, c.path, c.key); line != c.line || col != c.col {
			t.Errorf("%s: %d:%d, want %d:%d", c.path, line, col, c.line, c.col)
		}
	}
}

func TestViolationsOfTheServerAreShownInTheFile(t *testing.T) {
	root, err := specfile.Parse([]byte(runnerText))
	if err != nil {
		t.Fatal(err)
	}
	f := &file{name: "r.yaml", data: []byte(runnerText), root: root}
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid request body").
		WithField("runner.profile_bindings[1].is_default", "line 1, column 46: expected true or false").WithField("managed_spec", "line 1, column 2: is wrong")
	got := f.show(e).(*renderedError).text //nolint:errorlint // the type that show makes
	want := "r.yaml:9:16: runner.profile_bindings[1].is_default: expected true or false\n    9 |   - isDefault: maybe\n      |                ^\nr.yaml: managed_spec: is wrong\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(e.Fields[0].Description, "may") || e.Fields[0].Line != 0 {
		t.Error("the error of the server was changed")
	}
}
