package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/bermhq/berm/deploy"
	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

var good = deploy.Runner{Image: "registry.example/team/berm:2", Gateway: "https://berm.test:7070", Token: "berm_secret"}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// object finds the only object of a kind in a manifest, and decodes it strictly.
func object[T any](t *testing.T, manifest, kind string) (out T) {
	t.Helper()
	found := 0
	for _, text := range regexp.MustCompile(`(?m)^---$`).Split(manifest, -1) {
		if strings.Contains("\n"+text, "\nkind: "+kind+"\n") {
			found++
			if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found != 1 {
		t.Fatalf("%d objects of kind %s", found, kind)
	}
	return out
}

// TestPermissions compares what the account of a runner may do with the table that says why. CI makes the manifest anew from the chart.
func TestPermissions(t *testing.T) {
	var may []string
	rules := object[rbacv1.ClusterRole](t, read(t, "manifests/runner-account.yaml"), "ClusterRole").Rules
	rules = append(rules, object[rbacv1.Role](t, read(t, "manifests/runner-self-update.yaml"), "Role").Rules...)
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				line := strings.TrimSpace(strings.Join([]string{group, resource, strings.Join(rule.ResourceNames, " ")}, " "))
				may = append(may, line+": "+strings.Join(rule.Verbs, ", "))
			}
		}
	}
	slices.Sort(may)
	told := permissions(t, read(t, "../docs/kubernetes.md"))
	if diff := cmp.Diff(told, may); diff != "" {
		t.Errorf("the table of docs/kubernetes.md, and the account: %s", diff)
	}
}

// What a row of the table of permissions says: resources with their groups or the only name, verbs, and why.
var (
	row      = regexp.MustCompile(`(?m)^\| (.+?) \| ([a-z, ]+) \| .+ \|$`)
	resource = regexp.MustCompile("^([a-z/]+)(?: \\(([a-z.0-9]+)\\))?(?:, `([a-z-]+)` alone)?$")
)

// permissions reads that table, one line per resource.
func permissions(t *testing.T, page string) (out []string) {
	t.Helper()
	_, section, _ := strings.Cut(page, "\n## Permissions of the account\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, _ := strings.Cut(section, "|---|---|---|")
	rows := row.FindAllStringSubmatch(table, -1)
	if lines := strings.Count(table, "\n|"); lines != len(rows) {
		t.Errorf("%d rows of the table, %d of them understood", lines, len(rows))
	}
	for _, r := range rows {
		for _, one := range strings.Split(r[1], "; ") {
			m := resource.FindStringSubmatch(one)
			if m == nil {
				t.Fatalf("%q is not understood", one)
			}
			out = append(out, strings.Join(strings.Fields(m[2]+" "+m[1]+" "+m[3]), " ")+": "+r[2])
		}
	}
	slices.Sort(out)
	return out
}

// TestRestricted: neither pod asks for more than Pod Security "restricted" gives, and the server's has no account.
func TestRestricted(t *testing.T) {
	for _, name := range []string{"gateway", "runner"} {
		set := object[appsv1.StatefulSet](t, read(t, filepath.Join("manifests", name+".yaml")), "StatefulSet")
		pod := set.Spec.Template.Spec
		if !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: %+v", name, pod.SecurityContext)
		}
		if *pod.AutomountServiceAccountToken != (name == "runner") {
			t.Errorf("%s: token of the account: %t", name, *pod.AutomountServiceAccountToken)
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Capabilities.Add != nil {
				t.Errorf("%s: %+v", name, s)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: %+v", name, c.Resources)
			}
		}
	}
}

func TestManifest(t *testing.T) {
	r := good
	r.CA, r.Network = "-----BEGIN CERTIFICATE-----\n'\"\n-----END CERTIFICATE-----\n", "recorded"
	text, err := r.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if ca := object[corev1.ConfigMap](t, text, "ConfigMap").Data["ca.crt"]; ca != r.CA {
		t.Errorf("%q", ca)
	}
	if token := object[corev1.Secret](t, text, "Secret").StringData["token"]; token != r.Token {
		t.Errorf("%q", token)
	}
	c := object[appsv1.StatefulSet](t, text, "StatefulSet").Spec.Template.Spec.Containers[0]
	want := []string{
		"runner", "--backend=kube", "--gateway=https://berm.test:7070", "--ca=/etc/berm/ca.crt", "--kube-init-image=$(BERM_IMAGE)",
		"--deployment=/etc/berm/deployment.json", "--kube-init=init-container",
		"--kube-network=recorded", "--log-format=json",
	}
	if diff := cmp.Diff(want, c.Args); diff != "" || c.Image != r.Image {
		t.Errorf("%s %s", c.Image, diff)
	}
	if strings.Contains(text, "example/berm:1") || strings.Contains(text, "berm.example") {
		t.Error("a name of the template is left")
	}
	if self := decode(t, text); self.Installed.Image != r.Image || !slices.Equal(self.Images, []string{"registry.example/team/berm"}) || self.SelfUpdate || self.StatefulSet != "berm-runner" {
		t.Errorf("%+v", self)
	}
	if text, err = good.Manifest(); err != nil || strings.Contains(text, "--ca=") {
		t.Errorf("without an authority of its own: %v", err)
	}
}

// decode is the file of --deployment in a manifest, as a runner reads it.
func decode(t *testing.T, text string) *app.Self {
	t.Helper()
	self, err := app.DecodeSelf("deployment.json", []byte(object[corev1.ConfigMap](t, text, "ConfigMap").Data["deployment.json"]))
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// over is a deployment with every kind of override.
func over(t *testing.T) rollout.Wanted {
	t.Helper()
	o, err := rollout.ParseOverrides(`{"nodeSelector":{"pool":"x y"},"tolerations":[{"key":"a","operator":"Exists"}],"resources":{"cpuRequest":"1","memoryLimit":"2Gi"},
		"env":{"HTTPS_PROXY":"http://p"},"args":["--verbose"],"labels":{"team":"ml"},"annotations":{"a.example/b":"c"}}`)
	if err != nil {
		t.Fatal(err)
	}
	return rollout.Wanted{Revision: 7, Image: "r.example/berm:7", Overrides: o}
}

// TestManifestWithOverrides: all of them are in the StatefulSet, unless the runner is to apply them itself.
func TestManifestWithOverrides(t *testing.T) {
	r := good
	r.Wanted = over(t)
	text, err := r.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := good.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	template, was := object[appsv1.StatefulSet](t, text, "StatefulSet").Spec.Template, object[appsv1.StatefulSet](t, plain, "StatefulSet").Spec.Template
	c := template.Spec.Containers[0]
	if template.Spec.NodeSelector["pool"] != "x y" || template.Spec.Tolerations[0].Key != "a" || template.Labels["team"] != "ml" || template.Annotations["a.example/b"] != "c" ||
		template.Annotations[deploy.RevisionAnnotation] != "7" || c.Resources.Requests.Cpu().String() != "1" || c.Resources.Limits.Memory().String() != "2Gi" ||
		c.Resources.Requests.Memory().String() != "128Mi" || c.Args[len(c.Args)-1] != "--verbose" || c.Env[len(c.Env)-1].Name != "HTTPS_PROXY" || c.Image != good.Image {
		t.Errorf("%+v", template)
	}
	if diff := cmp.Diff(was.Spec.Volumes, template.Spec.Volumes); diff != "" || !cmp.Equal(was.Spec.SecurityContext, template.Spec.SecurityContext) || len(was.Labels)+1 != len(template.Labels) {
		t.Error(diff)
	}
	r.SelfUpdate = true
	if text, err = r.Manifest(); err != nil {
		t.Fatal(err)
	}
	if !decode(t, text).SelfUpdate || !cmp.Equal(was, object[appsv1.StatefulSet](t, text, "StatefulSet").Spec.Template) || object[rbacv1.Role](t, text, "Role").Name == "" {
		t.Error("a runner that changes its own deployment is installed without overrides, and may")
	}
}

// TestUpgrade: the command is one that a shell gives helm as it was meant.
func TestUpgrade(t *testing.T) {
	got := deploy.Upgrade("ns", "rel", over(t))
	want := `helm upgrade rel deploy/helm/berm-runner --namespace ns --reset-then-reuse-values --set image=r.example/berm:7 --set-json 'nodeSelector={"pool":"x y"}' ` +
		`--set-json 'tolerations=[{"key":"a","operator":"Exists"}]' --set-json 'resources.requests.cpu="1"' --set-json 'resources.limits.memory="2Gi"' ` +
		`--set-json 'podAnnotations={"a.example/b":"c"}' --set-json 'podLabels={"team":"ml"}' --set-json 'env={"HTTPS_PROXY":"http://p"}' --set-json 'extraArgs=["--verbose"]' --set revision=7`
	if got != want {
		t.Error(cmp.Diff(want, got))
	}
	env, args := deploy.Environment(over(t))
	if !slices.Equal(env, []string{"HTTPS_PROXY=http://p", "BERM_DEPLOYMENT_REVISION=7"}) || !slices.Equal(args, []string{"--verbose"}) {
		t.Errorf("%v %v", env, args)
	}
	r := good
	if r.SelfUpdate, r.Wanted = true, over(t); !strings.Contains(r.Helm(), " --set selfUpdate.enabled=true ") || strings.Contains(r.Helm(), "nodeSelector") {
		t.Error(r.Helm())
	}
}

func TestHelm(t *testing.T) {
	r := good
	r.CAFile, r.Network = "/it's, mine/ca.pem", "recorded"
	want := `helm install berm-runner deploy/helm/berm-runner --namespace berm --create-namespace --set image=registry.example/team/berm:2 ` +
		`--set gateway.url=https://berm.test:7070 --set-file 'gateway.ca=/it'\''s\, mine/ca.pem' --set network=recorded --set token.value=berm_secret`
	if got := r.Helm(); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func TestCheck(t *testing.T) {
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, gateway := range []string{"http://berm.test", "berm.test:7070", "https://", "https://berm.test/x", "https://u@berm.test", "https://berm.test?x"} {
		r := good
		if r.Gateway = gateway; !fault.Is(r.Check(), fault.Invalid) {
			t.Errorf("%s is taken", gateway)
		}
	}
	for _, image := range []string{"", "A B", "x\ny", "$(id)"} {
		r := good
		if r.Image = image; !fault.Is(r.Check(), fault.Invalid) {
			t.Errorf("%q is taken", image)
		}
	}
}
