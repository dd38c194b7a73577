package cli

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestMessagesNameTheFlagsThatWereGiven(t *testing.T) {
	var errs bytes.Buffer
	s := &session{Stdio: Stdio{Err: &errs}, flags: (&launchFlags{cpu: "x"}).flagNames()}
	s.print(fault.Invalidf("X", "invalid launch request").WithField("resource_requests.cpu", "bad").WithField("resource_limits.cpu", "bad").
		WithField("environment_variables[A]", "worse").WithField("command", "worst"))
	want := "error: invalid launch request\n  --cpu: bad\n  --env[A]: worse\n  command: worst\n"
	if errs.String() != want {
		t.Errorf("got\n%s\nwant\n%s", errs.String(), want)
	}
}

func TestNearestRequestIsGivenAsFlags(t *testing.T) {
	v := structpb.NewStringValue
	for name, tt := range map[string]struct {
		flags   launchFlags
		changes []*bermv1.Change
		want    []string
	}{
		"one flag for both": {launchFlags{cpu: "8"}, []*bermv1.Change{
			{Path: "resource_requests.cpu", From: v("8"), To: v("2")}, {Path: "resource_limits.cpu", From: v("8"), To: v("2")}}, []string{"--cpu: 2 (was 8)"}},
		"the request alone": {launchFlags{cpu: "8"}, []*bermv1.Change{{Path: "resource_requests.cpu", From: v("8"), To: v("2")}}, []string{"--cpu-request: 2 (was 8)"}},
		"both given": {launchFlags{cpu: "8", cpuRequest: "8"}, []*bermv1.Change{
			{Path: "resource_requests.cpu", From: v("8"), To: v("2")}, {Path: "resource_limits.cpu", From: v("8"), To: v("2")}}, []string{"--cpu-request: 2 (was 8)", "--cpu: 2 (was 8)"}},
		"left out": {launchFlags{}, []*bermv1.Change{{Path: "network.egress_mode", From: v("internet"), To: structpb.NewNullValue()}}, []string{"--egress: leave out (was internet)"}},
		"given":    {launchFlags{}, []*bermv1.Change{{Path: "container_image", From: structpb.NewNullValue(), To: v("host")}}, []string{"--image: host"}},
	} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			s := &session{Stdio: Stdio{Err: &errs}, flags: tt.flags.flagNames()}
			s.printRefusal(&bermv1.Refusal{Changes: tt.changes})
			want := "  The nearest request that would pass changes:\n    - " + strings.Join(tt.want, "\n    - ") + "\n"
			if errs.String() != want {
				t.Errorf("got\n%s\nwant\n%s", errs.String(), want)
			}
		})
	}
}
