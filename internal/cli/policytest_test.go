package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testRunAnswer = `{"results": [
	{"test": "no internet", "runnerId": "east", "binding": "agent", "outcome": "passed", "message": "refused", "failures": []},
	{"test": "a <b> & \u001b[1m", "runnerId": "east", "binding": "", "outcome": "failed", "message": "admitted on east/agent", "failures": [{"text": "value of tags: expected [\"a\"], is no value"}, {"text": "placed: x"}]},
	{"test": "gpu", "runnerId": "", "binding": "", "outcome": "skipped", "message": "no runner binds the profile", "failures": []}],
	"passed": 1, "failed": 1, "skipped": 1, "omittedResults": 2}`

func TestTestRunOutput(t *testing.T) {
	for output, want := range map[string]string{
		"table": `ok       no internet   east/agent
FAILED   a <b> & ?[1m  east
         value of tags: expected ["a"], is no value
         placed: x
skipped  gpu           any runner: no runner binds the profile
and 2 more
1 passed, 1 failed, 1 skipped
`,
		"junit": `<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="profile agent" tests="3" failures="1" skipped="1">
  <testcase name="no internet" classname="east/agent"></testcase>
  <testcase name="a &lt;b&gt; &amp; �[1m" classname="east">
    <failure message="value of tags: expected [&#34;a&#34;], is no value">value of tags: expected [&#34;a&#34;], is no value&#xA;placed: x&#xA;</failure>
  </testcase>
  <testcase name="gpu" classname="any runner">
    <skipped message="no runner binds the profile"></skipped>
  </testcase>
</testsuite>
`,
	} {
		var out bytes.Buffer
		s := &session{Stdio: Stdio{Out: &out}, output: output}
		err := s.emitTestRun("agent", []byte(testRunAnswer))
		var code *exitError
		if !errors.As(err, &code) || code.code != exitFindings {
			t.Errorf("%s: %v, want exit code %d", output, err, exitFindings)
		}
		if out.String() != want {
			t.Errorf("%s: got\n%s\nwant\n%s", output, out.String(), want)
		}
	}
	var out bytes.Buffer
	s := &session{Stdio: Stdio{Out: &out}, output: "table"}
	if err := s.emitTestRun("agent", []byte(`{"results": [], "passed": 3}`)); err != nil || out.String() != "3 passed, 0 failed\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

func TestReadTestsShowsThePlace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(name, []byte("tests:\n- name: a\n  expect:\n    verdict: admitted\n    values: {resource_defaults.memory_limt: 1Gi}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&session{}).readTests(name)
	var shown *renderedError
	if !errors.As(err, &shown) || !strings.Contains(shown.text, name+":5:14: ") || !strings.Contains(shown.text, "did you mean resource_defaults.memory_limit?") {
		t.Errorf("%v", err)
	}
	if _, _, err := (&session{}).readSpec(name); err == nil || !strings.Contains(err.Error(), "tests") {
		t.Errorf("tests are taken for a profile: %v", err)
	}
}
