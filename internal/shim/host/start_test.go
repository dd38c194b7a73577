package host

import (
	"slices"
	"testing"
)

func TestAddLine(t *testing.T) {
	var said []string
	for _, line := range []string{
		`time="2026-11-23T23:04:02Z" level=error msg="runc run failed: unable to \"apply\""` + "\n", ": runc run failed: unable to \"apply\"\n", "\n",
		`time="x" level=warning msg=short`, "another: thing\n", "another: thing",
	} {
		said = addLine(said, line)
	}
	if want := []string{`runc run failed: unable to "apply"`, "short", "another: thing"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
}
