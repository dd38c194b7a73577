package kube

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// anyName generates ids and names, among them ones that look like shortened ones.
func anyName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z0-9-]{1,70}`),
		rapid.StringMatching(`[A-Za-z0-9._-]{1,70}`),
		rapid.StringMatching(`[a-c-]{1,3}-[0-9a-v]{13}`),
		rapid.Custom(func(t *rapid.T) string { return labelValue(rapid.StringMatching(`[aA_]{1,3}`).Draw(t, "seed")) }),
		rapid.StringN(1, 20, 60),
	)
}

func TestLabelValuesAreValidAndDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyName().Draw(t, "a"), anyName().Draw(t, "b")
		la, lb := labelValue(a), labelValue(b)
		if why := validation.IsValidLabelValue(la); len(why) > 0 {
			t.Fatalf("%q became %q: %v", a, la, why)
		}
		if a != b && la == lb {
			t.Fatalf("%q and %q both became %q", a, b, la)
		}
	})
}

func TestPodNamesAreValidAndDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyName().Draw(t, "a"), anyName().Draw(t, "b")
		na, nb := podName(a), podName(b)
		if !isLabel(na) || !strings.HasPrefix(na, "sandbox-") {
			t.Fatalf("%q became %q", a, na)
		}
		if a != b && na == nb {
			t.Fatalf("%q and %q both became %q", a, b, na)
		}
	})
}

// place is what a namespace is made from.
type place struct{ strategy, prefix, org, user, profile string }

func (p place) input() PodInput {
	in := PodInput{}
	in.OrgID, in.UserID, in.ProfileName = p.org, p.user, p.profile
	in.Spec = &specpb.ProfileSpec{Namespace: &specpb.Namespace{Strategy: &p.strategy, NamespacePrefix: &p.prefix}}
	return in
}

// tenant is what may share a namespace: with the prefix and strategy, what those distinguish.
func (p place) tenant() place {
	switch p.strategy {
	case strategyUser:
		p.profile = ""
	case strategyProfile:
		p.user = ""
	default:
		p.user, p.profile = "", ""
	}
	return p
}

func TestNamespacesAreValidAndDistinct(t *testing.T) {
	any := rapid.Custom(func(t *rapid.T) place {
		id := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "a-b", "a-b-c", "A", "org-ns-a"}), anyName())
		return place{
			rapid.SampledFrom([]string{strategyUser, strategyOrg, strategyProfile}).Draw(t, "strategy"),
			rapid.SampledFrom([]string{"", "a-", "a-b-", "a", "org-ns-", "user-ns-", strings.Repeat("p", 40)}).Draw(t, "prefix"),
			id.Draw(t, "org"), id.Draw(t, "user"), id.Draw(t, "profile"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := any.Draw(t, "a"), any.Draw(t, "b")
		na, err := NamespaceFor(a.input())
		if err != nil {
			t.Fatal(err)
		}
		nb, err := NamespaceFor(b.input())
		if err != nil {
			t.Fatal(err)
		}
		if !isLabel(na.Name) || !strings.HasPrefix(na.Name, a.prefix) {
			t.Fatalf("%+v became %q", a, na.Name)
		}
		// An empty prefix stands for the strategy's own.
		same := a.tenant() == b.tenant() || a.strategy == b.strategy && a.prefix+b.prefix == map[string]string{strategyUser: prefixUser, strategyOrg: prefixOrg, strategyProfile: prefixProfile}[a.strategy] && noPrefix(a.tenant()) == noPrefix(b.tenant())
		if !same && na == nb {
			t.Fatalf("%+v and %+v share %q", a, b, na.Name)
		}
		if a.tenant() == b.tenant() && na != nb {
			t.Fatalf("%+v and %+v are apart: %q, %q", a, b, na.Name, nb.Name)
		}
	})
}

func noPrefix(p place) place {
	p.prefix = ""
	return p
}

// TestStandInsAreNotTakenVerbatim: a name that is spelled like the stand-in of another gets a stand-in of its own.
func TestStandInsAreNotTakenVerbatim(t *testing.T) {
	if label := labelValue("GPU workbench"); labelValue(label) == label {
		t.Errorf("the name %q has the label of another", label)
	}
	if name := podName("GPU workbench"); podName(strings.TrimPrefix(name, "sandbox-")) == name {
		t.Errorf("the id of pod %q could be another's", name)
	}
	user := place{strategyUser, prefixOrg, "a", "b", "c"}.input()
	taken, err := NamespaceFor(user)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NamespaceFor(place{strategyOrg, "", strings.TrimPrefix(taken.Name, prefixOrg), "", ""}.input())
	if err != nil || got == taken {
		t.Errorf("an organization has the namespace %v of a user, %v", got, err)
	}
}

func TestReservedKeys(t *testing.T) {
	for key, want := range map[string]string{
		"team": "", "team.example/a": "", "notkubernetes.io/a": "", "kubernetes.io": "", "app.kubernetes.io/name": "", "devices": "",
		"berm.dev/x": "own", "a.berm.dev/x": "own", "Berm.DEV/x": "own", "sandbox.coreweave.com/x": "own", "app.kubernetes.io/managed-by": "own",
		"kubernetes.io/psp": "privileged", "container.apparmor.security.beta.kubernetes.io/main": "privileged", "Kubernetes.IO/x": "privileged",
		"IO.Containerd.x": "privileged", "run.oci.hooks": "privileged", "k8s.v1.cni.cncf.io/networks": "privileged",
		"coreweave.com/x": "privileged", "azure.workload.identity/use": "privileged", "sidecar.istio.io/inject": "privileged",
	} {
		got := ""
		if own(key) {
			got = "own"
		} else if privileged(key) {
			got = "privileged"
		}
		if got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}
