package controlplane

import (
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// FuzzPatch: whatever is sent as the body and mask of an update, it is either refused as invalid, with everything that is wrong,
// or understood as a patch that names only what may be named.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`{"profileTemplate": {"description": "d", "labels": {"a": "b"}, "spec": {"tags": null, "nodeSelector": {}}}}`,
		`{"profile_template": {"spec": {"container_image": "x", "namespaceConfigJson": "{}"}}, "update_mask": "spec.container_image,description"}`,
		`{"profileTemplate": {"spec": {"network": {"ingress": {"public": {"scope": "any"}}}, "pod": {"spec": {"volumes": []}}}}}`,
		`{"runner": {"identity": {"zone": "z"}, "profileBindings": [{"profileTemplateId": "x", "isDefault": true, "overridesJson": "{\"tags\":null}"}]}, "updateMask": "profileBindings"}`,
		`{"runner": {"managedSpec": {"maintenancePolicy": {"exclusions": [{"startTime": "2026-01-01T00:00:00Z"}]}, "overrides": {"env": {"TZ": "b"}}}}}`,
		`{"runner": null}`, `{"profileTemplate": []}`, `{"id": "x", "profileTemplate": {"id": "y", "spec": {}}}`, `{"updateMask": 7}`, `{}`, `[]`,
		`{"profileTemplate": {}, "profile_template": {}, "updateMask": "", "update_mask": null}`,
	} {
		f.Add(seed, "")
		f.Add(seed, "description,spec.tags")
	}
	f.Fuzz(func(t *testing.T, body, mask string) {
		n, err := tree.ParseJSON([]byte(body))
		if err != nil || n.Kind != tree.Object {
			return
		}
		query := map[string]string{}
		if mask != "" {
			query["update_mask"] = mask
		}
		profile, err := decodeProfilePatch(n, query, "x")
		if refused(t, err) {
			checkMask(t, profile.Mask, control.ProfilePaths())
		}
		runner, err := decodeRunnerPatch(n, query, "x")
		if refused(t, err) {
			checkMask(t, runner.Mask, control.RunnerPaths())
		}
	})
}

// refused checks an error, and reports whether there was none.
func refused(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	if f := fault.From(err); f.Code != fault.Invalid || f.Reason == "" || f.Message == "" {
		t.Errorf("refused with %s %s: %v", f.Code, f.Reason, err)
	}
	return false
}

// checkMask: every path can be named in a mask, or names a field that is known and cannot change, for which the use case has an
// error of its own.
func checkMask(t *testing.T, mask, allowed []string) {
	t.Helper()
	for _, path := range mask {
		if slices.Contains(allowed, "!"+path) {
			continue
		}
		if got, err := spec.ParseMask(path, allowed); err != nil || !slices.Equal(got, []string{path}) {
			// Keys of open objects may hold what a mask cannot spell.
			if strings.HasPrefix(path, "spec.pod.spec.") {
				continue
			}
			t.Errorf("path %q: %v, %v", path, got, err)
		}
	}
}
