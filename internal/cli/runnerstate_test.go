package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/core/tree"
)

// TestRunnerFlags: the flags that are printed make the same of a runner again; what they do not name stays.
func TestRunnerFlags(t *testing.T) {
	const was = `{"identity":{"runnerId":"east","zone":"eu","clusterName":"c","runnerGroupId":"g"},"managedSpec":{"releaseChannel":"RELEASE_CHANNEL_STABLE",
		"overrides":{"env":{"A":"b"},"cpuRuntimeClass":"x"},"enforceResourceLimits":true},"profileBindings":[{"profileTemplateId":"1","profileName":"a","isDefault":true,"overridesJson":"{}"},{"profileTemplateId":"2","profileName":"b"}]}`
	for name, tt := range map[string]struct {
		args []string
		want string
		mask string
	}{
		"a field":        {[]string{"--release-channel", "rapid"}, `"release_channel":"RELEASE_CHANNEL_RAPID"`, "managed_spec"},
		"one is dropped": {[]string{"--cpu-runtime-class", ""}, `"overrides":{"env":{"A":"b"}}`, "managed_spec"},
		"a group less":   {[]string{"--group", ""}, `"zone":"eu"`, "identity.runner_group_id"},
		"bindings":       {[]string{"--unbind", "a", "--bind", "c", "--default", "b"}, `{"is_default":false,"profile":"c"}`, "profile_bindings"},
		"the default":    {[]string{"--default", "b"}, `{"is_default":false,"overridesJson":"{}","profileName":"a","profileTemplateId":"1"}`, "profile_bindings"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := tree.ParseJSON([]byte(was))
			if err != nil {
				t.Fatal(err)
			}
			from := runnerStateOf(n)
			next := applied(t, from, tt.args)
			body := next.body(from)
			if text := string(body.JSON()); !strings.Contains(text, tt.want) {
				t.Errorf("%s lacks %s", text, tt.want)
			}
			if got := runnerMask(body, n, false); got != tt.mask {
				t.Errorf("mask %s, want %s", got, tt.mask)
			}
			if words := next.words(from, false); strings.Join(words, " ") != strings.Join(tt.args, " ") {
				t.Errorf("printed %q, want %q", words, tt.args)
			}
			if string(n.JSON()) != string(from.runner.JSON()) || from.byDefault() != "a" {
				t.Error("the runner that was read was changed")
			}
		})
	}
}

func applied(t *testing.T, from *runnerState, args []string) *runnerState {
	t.Helper()
	var f runnerSetFlags
	c := &cobra.Command{}
	f.add(c, false)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	next, err := f.apply(c, from)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// TestRunnerFieldsAreOfTheSchema: every flag is a field that there is, of a kind that a flag can say.
func TestRunnerFieldsAreOfTheSchema(t *testing.T) {
	for _, f := range runnerFields {
		value := "x"
		if values := f.values(); values != nil {
			value = values[0]
		}
		n := f.put(&tree.Node{Kind: tree.Object}, value)
		if got := f.of(n); got != value {
			t.Errorf("--%s: %q became %q", f.flag, value, got)
		}
		if got := f.of(f.put(n, "")); got != "" {
			t.Errorf("--%s cannot be dropped: %q", f.flag, got)
		}
	}
}
