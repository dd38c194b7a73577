package cli

import (
	"encoding/json"
	"testing"
)

func TestAtRevision(t *testing.T) {
	for text, want := range map[string]struct {
		name     string
		revision int
		ok       bool
	}{"agent": {"agent", 0, true}, "agent@3": {"agent", 3, true}, "agent@0": {}, "agent@": {}, "@1": {}, "agent@x": {}, "agent@-1": {}} {
		name, revision, err := atRevision(text)
		if (err == nil) != want.ok || name != want.name || revision != want.revision {
			t.Errorf("%s: %q %d %v", text, name, revision, err)
		}
	}
}

// TestChangeCells: what is not there, what is null and what is the text null are three things.
func TestChangeCells(t *testing.T) {
	var c fieldChange
	if err := json.Unmarshal([]byte(`{"path":"p","new":null}`), &c); err != nil {
		t.Fatal(err)
	}
	if got := changeTable([]fieldChange{c}).rows[0]; got[1] != "-" || got[2] != "null" {
		t.Errorf("%q", got)
	}
	if jsonCell(json.RawMessage(`"null"`)) != "null" || jsonCell(json.RawMessage(`{"a":1}`)) != `{"a":1}` {
		t.Error("values are not shown as they are")
	}
}
