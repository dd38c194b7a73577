package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
)

// TestExplainTable: a guardrail names every statement that it comes from, and what is left out of a list is said.
func TestExplainTable(t *testing.T) {
	var out bytes.Buffer
	s := &session{Stdio: Stdio{Out: &out}}
	s.fields([]*bermv1.ExplainedField{
		{
			Path: "guardrails.runtime_classes", Value: list("gvisor"), Layer: "profile", Object: "profile agent", Revision: 2, By: "token:ci", Enforcement: "enforced",
			Combined: []*bermv1.ShadowedValue{{Value: list("gvisor", "runc"), Layer: "zone", Object: "zone us", Revision: 1}},
		},
		{
			Path: "tags", Value: structpb.NewNullValue(), Layer: "override", Object: "binding r/agent", Revision: 1, Enforcement: "recorded",
			Shadowed: []*bermv1.ShadowedValue{{Value: list("ci"), Layer: "profile"}},
		},
	})
	s.candidates([]*bermv1.Candidate{{RunnerId: "r", ProfileName: "agent", Chosen: true, Score: 0.75}}, 40)
	want := `FIELD                        VALUE        LAYER      FROM                                                BY         AT   SHADOWED           HERE
guardrails.runtime_classes   ["gvisor"]   profile    profile agent, revision 2 and zone us, revision 1   token:ci                           enforced
tags                         null         override   binding r/agent, revision 1                                         ["ci"] (profile)   recorded

Candidates:
   RUNNER   PROFILE   CHOSEN   SCORE   WHY NOT
   r        agent     yes      0.750
   and 40 more
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func list(values ...string) *structpb.Value {
	l := &structpb.ListValue{}
	for _, v := range values {
		l.Values = append(l.Values, structpb.NewStringValue(v))
	}
	return structpb.NewListValue(l)
}

// TestJSONIsWhole: scripts find every field of a type, empty or not, as over REST; what was not observed is not there.
func TestJSONIsWhole(t *testing.T) {
	raw, err := toJSON(&bermv1.ExplainSandboxResponse{Fields: []*bermv1.ExplainedField{{Path: "tags"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		SandboxID *string          `json:"sandboxId"`
		Fields    []map[string]any `json:"fields"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"path", "layer", "object", "revision", "by", "shadowed", "enforcement"} {
		if _, there := got.Fields[0][key]; !there || got.SandboxID == nil {
			t.Errorf("no %s in %s", key, raw)
		}
	}
	raw, err = toJSON(&bermv1.Sandbox{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("exitCode")) {
		t.Errorf("an exit code that nobody saw: %s", raw)
	}
}
