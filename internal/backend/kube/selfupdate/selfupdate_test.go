package selfupdate_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/bermhq/berm/internal/backend/kube/selfupdate"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// installed is the StatefulSet of the manifest that is told to people.
func installed(t *testing.T) map[string]any {
	t.Helper()
	raw, err := os.ReadFile("../../../../deploy/manifests/runner.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range regexp.MustCompile(`(?m)^---$`).Split(string(raw), -1) {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		if o["kind"] == "StatefulSet" {
			o["metadata"].(map[string]any)["uid"] = "uid-1"
			return o
		}
	}
	t.Fatal("no StatefulSet")
	return nil
}

var (
	succeeds  = map[string]any{"phase": "Succeeded"}
	noImage   = map[string]any{"phase": "Pending", "containerStatuses": []any{map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "not found: berm:2"}}}}}
	noNode    = map[string]any{"phase": "Pending", "conditions": []any{map[string]any{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}}}
	badFlags  = map[string]any{"phase": "Failed", "containerStatuses": []any{map[string]any{"state": map[string]any{"terminated": map[string]any{"exitCode": 2, "message": "unknown flag: --x"}}}}}
	standing  = map[string]any{"phase": "Running"}
	fullyOver = `{"nodeSelector":{"pool":"x"},"tolerations":[{"key":"a","operator":"Exists"}],"resources":{"cpuRequest":"1"},"env":{"HTTPS_PROXY":"http://p"},
		"args":["--verbose"],"labels":{"team":"ml"},"annotations":{"a.example/b":"c"}}`
)

// world is a runner on such a cluster.
func world(t *testing.T, fate map[string]any) (*cluster, *selfupdate.Updater) {
	t.Helper()
	return worldOf(t, fate, rollout.State{})
}

// worldOf has one that runs a revision.
func worldOf(t *testing.T, fate map[string]any, runs rollout.State) (*cluster, *selfupdate.Updater) {
	t.Helper()
	c := &cluster{t: t, chart: installed(t), pods: map[string]map[string]any{}, fate: fate}
	return c, processOf(t, c, runs)
}

// processOf is the process of a runner on a cluster that runs a revision.
func processOf(t *testing.T, c *cluster, runs rollout.State) *selfupdate.Updater {
	t.Helper()
	u := selfupdate.New(selfupdate.Config{
		Client: c.client(), LookEvery: time.Millisecond, RehearseTimeout: 200 * time.Millisecond, ReplaceTimeout: 20 * time.Millisecond,
		State: rollout.State{
			Revision: runs.Revision, Identity: runs.Identity,
			Kind: rollout.KindStatefulSet, Version: "1", Namespace: "berm", Name: "berm-runner", Image: "registry.example/berm:1", Images: []string{"registry.example/berm"},
			Installed: rollout.Spec{Image: "registry.example/berm:1", Resources: rollout.Resources{CPURequest: "100m", MemoryRequest: "128Mi", MemoryLimit: "1Gi"}},
		},
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	over := make(chan struct{})
	go func() { defer close(over); u.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-over })
	return u
}

// want asks for a deployment and waits for what comes of it. The fake does not end the process: every success ends as "not replaced".
func want(t *testing.T, u *selfupdate.Updater, revision int32, image, text string) *rollout.Problem {
	t.Helper()
	o, err := rollout.ParseOverrides(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Want(t.Context(), rollout.Wanted{Revision: revision, Image: image, Overrides: o}); err != nil {
		t.Fatal(err)
	}
	return ended(t, u, revision)
}

func ended(t *testing.T, u *selfupdate.Updater, revision int32) *rollout.Problem {
	t.Helper()
	for range 5000 {
		if p := u.State().Problem; p != nil && p.Revision == revision {
			return p
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("revision %d has no end", revision)
	return nil
}

func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			v = l[p]
		}
	}
	return v
}

// env is the environment of a container as a map; what is not text is "from".
func env(container any) map[string]string {
	out := map[string]string{}
	list, _ := at(container, "env").([]any)
	for _, v := range list {
		text, ok := at(v, "value").(string)
		if !ok {
			text = "from"
		}
		out[at(v, "name").(string)] = text
	}
	return out
}

func same(t *testing.T, what string, got any, wantJSON string) {
	t.Helper()
	var w, g any
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal([]byte(wantJSON), &w) != nil || json.Unmarshal(raw, &g) != nil {
		t.Fatal(wantJSON)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestRollout(t *testing.T) {
	c, u := world(t, succeeds)
	if p := want(t, u, 2, "registry.example/berm:2", fullyOver); p.Reason != selfupdate.ReasonNotReplaced {
		t.Fatalf("%+v", p)
	}
	before := at(installed(t), "spec", "template", "spec")
	template := at(c.set(), "spec", "template")
	pod, container := at(template, "spec"), at(template, "spec", "containers", 0)
	same(t, "image", at(container, "image"), `"registry.example/berm:2"`)
	same(t, "resources", at(container, "resources"), `{"requests":{"cpu":"1","memory":"128Mi"},"limits":{"memory":"1Gi"}}`)
	same(t, "env", env(container), `{"BERM_RUNNER_TOKEN":"from","BERM_IMAGE":"registry.example/berm:2","BERM_DEPLOYMENT_REVISION":"from","HTTPS_PROXY":"http://p","BERM_RUNNER_ARGS":"[\"--verbose\"]"}`)
	same(t, "selector", at(pod, "nodeSelector"), `{"pool":"x"}`)
	same(t, "tolerations", at(pod, "tolerations"), `[{"key":"a","operator":"Exists"}]`)
	if a, l := at(template, "metadata", "annotations"), at(template, "metadata", "labels"); at(a, "berm.dev/deployment-revision") != "2" || at(a, "a.example/b") != "c" || at(a, "berm.dev/config") == nil || at(l, "team") != "ml" {
		t.Errorf("%v %v", a, l)
	}
	for _, kept := range []string{"args", "securityContext", "volumeMounts"} {
		if diff := cmp.Diff(at(before, "containers", 0, kept), at(container, kept)); diff != "" {
			t.Errorf("%s: %s", kept, diff)
		}
	}
	for _, kept := range []string{"serviceAccountName", "securityContext", "volumes", "automountServiceAccountToken"} {
		if diff := cmp.Diff(at(before, kept), at(pod, kept)); diff != "" {
			t.Errorf("%s: %s", kept, diff)
		}
	}
	// What is not wanted any more is what was installed.
	want(t, u, 3, "", "")
	container = at(c.set(), "spec", "template", "spec", "containers", 0)
	same(t, "image", at(container, "image"), `"registry.example/berm:1"`)
	same(t, "env", env(container), `{"BERM_RUNNER_TOKEN":"from","BERM_IMAGE":"registry.example/berm:1","BERM_DEPLOYMENT_REVISION":"from"}`)
	same(t, "resources", at(container, "resources"), `{"requests":{"cpu":"100m","memory":"128Mi"},"limits":{"memory":"1Gi"}}`)
}

// TestRehearsal: what is tried is the next pod, without what it must not have.
func TestRehearsal(t *testing.T) {
	c, u := world(t, succeeds)
	want(t, u, 2, "registry.example/berm:2", fullyOver)
	if len(c.made) != 1 || len(c.pods) != 0 {
		t.Fatalf("%d made, %d left", len(c.made), len(c.pods))
	}
	pod := c.made[0]
	spec, container := at(pod, "spec"), at(pod, "spec", "containers", 0)
	args := at(container, "args").([]any)
	if args[len(args)-1] != selfupdate.CheckFlag || args[0] != "runner" || at(container, "image") != "registry.example/berm:2" {
		t.Errorf("%v", container)
	}
	same(t, "env", env(container), `{"BERM_IMAGE":"registry.example/berm:2","BERM_DEPLOYMENT_REVISION":"from","HTTPS_PROXY":"http://p","BERM_RUNNER_ARGS":"[\"--verbose\"]"}`)
	same(t, "resources", at(container, "resources"), `{"requests":{"cpu":"1","memory":"128Mi"},"limits":{"memory":"1Gi"}}`)
	if at(spec, "automountServiceAccountToken") != false || at(spec, "restartPolicy") != "Never" || at(spec, "securityContext") == nil || at(container, "securityContext") == nil {
		t.Errorf("%v", spec)
	}
	text, err := json.Marshal(at(spec, "volumes"))
	if err != nil || !strings.Contains(string(text), `"persistentVolumeClaim":{"claimName":"data-berm-runner-0","readOnly":true}`) {
		t.Errorf("%s %v", text, err)
	}
	for k, v := range at(pod, "metadata", "labels").(map[string]any) {
		if at(c.chart, "spec", "selector", "matchLabels", k) == v {
			t.Errorf("the StatefulSet would take the pod: %s=%v", k, v)
		}
	}
	same(t, "owner", at(pod, "metadata", "ownerReferences"), `[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"berm-runner","uid":"uid-1"}]`)
}

// TestProblems: what does not work in the rehearsal never reaches the StatefulSet.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		fate           map[string]any
		reason, detail string
	}{
		"no image":  {noImage, selfupdate.ReasonImagePullFailed, "not found: berm:2"},
		"no node":   {noNode, selfupdate.ReasonUnschedulable, "0/3 nodes"},
		"bad flags": {badFlags, selfupdate.ReasonRehearsalFailed, "unknown flag: --x"},
		"no end":    {standing, selfupdate.ReasonRehearsalFailed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, u := world(t, tt.fate)
			p := want(t, u, 2, "registry.example/berm:2", "")
			if p.Reason != tt.reason || !strings.Contains(p.Detail, tt.detail) || len(p.Hints) == 0 || p.At.IsZero() {
				t.Errorf("%+v", p)
			}
			if c.applied != nil || len(c.pods) != 0 {
				t.Errorf("applied %v, %d pods left", c.applied, len(c.pods))
			}
			if s := u.State(); s.Trying != 0 || s.Image != "registry.example/berm:1" {
				t.Errorf("%+v", s)
			}
			// It is asked again, and this time it works.
			c.mu.Lock()
			c.fate = succeeds
			c.mu.Unlock()
			if p := want(t, u, 3, "registry.example/berm:3", ""); p.Reason != selfupdate.ReasonNotReplaced {
				t.Errorf("%+v", p)
			}
		})
	}
	c, u := world(t, succeeds)
	c.forbid = true
	if p := want(t, u, 2, "registry.example/berm:2", ""); p.Reason != selfupdate.ReasonForbidden || !strings.Contains(p.Hints[0], "selfUpdate.enabled") {
		t.Errorf("%+v", p)
	}
}

// TestIdentity: what is wanted is applied when it is another deployment than the one that runs, whatever its number is.
func TestIdentity(t *testing.T) {
	c, u := worldOf(t, succeeds, rollout.State{Revision: 9, Identity: "9.other"})
	one := rollout.Wanted{Revision: 1}.Identify("runner-1")
	for range 2 { // Two servers say the same.
		if err := u.Want(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	ended(t, u, 1)
	if len(c.made) != 1 {
		t.Errorf("%d rehearsals", len(c.made))
	}
	template := at(c.set(), "spec", "template")
	if got := env(at(template, "spec", "containers", 0))[rollout.IdentityVar]; got != one.Identity || at(template, "metadata", "annotations", "berm.dev/deployment-revision") != "1" {
		t.Errorf("%q", got)
	}
	// What runs is not tried; without an identity, as from a gateway of a release before, the number decides.
	_, u = worldOf(t, succeeds, rollout.State{Revision: 1, Identity: one.Identity})
	for _, w := range []rollout.Wanted{one, {Revision: 1, Image: "registry.example/berm:2"}} {
		if err := u.Want(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	two := rollout.Wanted{Revision: 2}.Identify("runner-1")
	if err := u.Want(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	ended(t, u, 2)
}

// TestUndone: what passed its rehearsal, did not run and was taken back is not made the deployment once more; something else is.
func TestUndone(t *testing.T) {
	c, u := world(t, succeeds)
	wanted := func(u *selfupdate.Updater, w rollout.Wanted) *rollout.Problem {
		t.Helper()
		if err := u.Want(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		return ended(t, u, w.Revision)
	}
	two := rollout.Wanted{Revision: 2, Image: "registry.example/berm:2"}.Identify("runner-1")
	if p := wanted(u, two); p.Reason != selfupdate.ReasonNotReplaced {
		t.Fatalf("%+v", p)
	}
	// kubectl rollout undo: the template is the one of before, and so is the process.
	c.mu.Lock()
	delete(c.applied, "spec")
	c.mu.Unlock()
	again := processOf(t, c, rollout.State{})
	if p := wanted(again, two); p.Reason != rollout.ReasonUndone || len(p.Hints) == 0 {
		t.Errorf("%+v", p)
	}
	if len(c.made) != 1 || at(c.set(), "spec", "template", "spec", "containers", 0, "image") != "registry.example/berm:1" {
		t.Errorf("it was tried again: %d rehearsals", len(c.made))
	}
	three := two
	three.Revision = 3
	if p := wanted(again, three.Identify("runner-1")); p.Reason != selfupdate.ReasonNotReplaced {
		t.Errorf("%+v", p)
	}
	// A chart that takes the fields back leaves the variable: what is wanted is applied once more, as ever.
	c.mu.Lock()
	c.applied["spec"].(map[string]any)["template"].(map[string]any)["metadata"] = map[string]any{"annotations": map[string]any{"berm.dev/deployment-revision": "1"}}
	c.mu.Unlock()
	third := processOf(t, c, rollout.State{})
	if p := wanted(third, three.Identify("runner-1")); p.Reason != selfupdate.ReasonNotReplaced {
		t.Errorf("%+v", p)
	}
}

// TestRefused: a gateway is not believed, whatever it has let through.
func TestRefused(t *testing.T) {
	c, u := world(t, succeeds)
	for _, w := range []rollout.Wanted{
		{Revision: 2, Image: "evil.example/berm:2"},
		{Revision: 2, Image: "registry.example/berm-evil:2"},
		{Revision: 2, Overrides: rollout.Overrides{Args: []string{"--gateway=https://evil.example"}}},
		{Revision: 2, Overrides: rollout.Overrides{Env: map[string]string{"BERM_IMAGE": "evil.example/berm"}}},
		{Revision: 2, Overrides: rollout.Overrides{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/berm": "unconfined"}}},
	} {
		if err := u.Want(t.Context(), w); !fault.HasReason(err, fault.ReasonUpdateRefused) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	if err := u.Want(t.Context(), rollout.Wanted{Revision: 1}); err != nil { // what runs
		t.Error(err)
	}
	if len(c.made) != 0 || c.applied != nil {
		t.Error("something was done all the same")
	}
}
