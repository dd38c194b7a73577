package policy

import (
	"encoding/json"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/tree"
)

// storedTest is a test as it is kept: read once, when it was written, so that a later build means the same by it.
type storedTest struct {
	Test
	Launch json.RawMessage `json:"launch"`
}

// Marshal returns the stored form of tests.
func Marshal(tests []Test) (json.RawMessage, error) {
	out := make([]storedTest, len(tests))
	for i, t := range tests {
		text, err := launch.Marshal(t.Launch)
		if err != nil {
			return nil, err
		}
		out[i] = storedTest{t, text}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fault.Internalf(err, "encode tests")
	}
	return text, nil
}

// Unmarshal reads what Marshal wrote. The error is an Internal fault: the text comes from our own store.
func Unmarshal(text json.RawMessage) ([]Test, error) {
	var stored []storedTest
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, fault.Internalf(err, "read stored tests")
	}
	tests := make([]Test, len(stored))
	for i, s := range stored {
		l, err := launch.Unmarshal(s.Launch)
		if err != nil {
			return nil, fault.Internalf(err, "read the request of test %s", s.Name)
		}
		tests[i] = s.Test
		tests[i].Launch = l
		for j := range tests[i].Expect.Values {
			v := &tests[i].Expect.Values[j]
			n, err := tree.ParseJSON(v.Value)
			if err == nil {
				err = v.compile(n)
			}
			if err != nil {
				return nil, fault.Internalf(err, "read what test %s expects of %s", s.Name, v.Path)
			}
		}
	}
	return tests, nil
}
