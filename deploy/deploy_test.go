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
	"github.com/bermhq/berm/internal/core/fault"
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
	for _, rule := range object[rbacv1.ClusterRole](t, read(t, "manifests/runner-account.yaml"), "ClusterRole").Rules {
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
		"runner", "--backend=kube", "--gateway=https://berm.test:7070", "--ca=/etc/berm/ca.crt", "--kube-init-image=registry.example/team/berm:2", "--kube-init=init-container",
		"--kube-network=recorded", "--log-format=json",
	}
	if diff := cmp.Diff(want, c.Args); diff != "" || c.Image != r.Image {
		t.Errorf("%s %s", c.Image, diff)
	}
	if strings.Contains(text, "example/berm:1") || strings.Contains(text, "berm.example") {
		t.Error("a name of the template is left")
	}
	if text, err = good.Manifest(); err != nil || strings.Contains(text, "--ca=") {
		t.Errorf("without an authority of its own: %v", err)
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
