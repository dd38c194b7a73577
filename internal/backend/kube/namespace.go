package kube

import (
	"fmt"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Strategies of ProfileSpec.namespace.strategy. Without one, a sandbox runs in the namespace of its organization.
const (
	strategyUser    = "per-user"
	strategyOrg     = "per-org"
	strategyProfile = "per-profile"
	strategyStatic  = "static"
)

// Prefixes of namespaces whose profile gives none. The organization's is the one that is documented of the compatible platform.
const (
	prefixUser    = "user-ns-"
	prefixOrg     = "org-ns-"
	prefixProfile = "profile-ns-"
)

// reservedNamespaces is what the names of Kubernetes' own namespaces begin with.
const reservedNamespaces = "kube-"

// Namespace is where a sandbox runs.
type Namespace struct {
	Name string
	// Create says that the namespace is made when it is missing.
	Create bool
}

// NamespaceFor returns the namespace of a sandbox by the strategy of its profile. Names are DNS labels. Except for a
// static one and the plain org-ns-ORG they end in a hash of the strategy, the organization, the user or profile, and the
// prefix, so that no two of these share a namespace, whatever they are called: "a-" with "b-c" is not "a-b-" with "c".
func NamespaceFor(in PodInput) (Namespace, error) {
	n := in.Spec.GetNamespace()
	create := true
	if n != nil && n.AutoCreate != nil {
		create = n.GetAutoCreate()
	}
	prefix := n.GetNamespacePrefix()
	switch n.GetStrategy() {
	case strategyStatic:
		return static(n.GetStaticNamespace(), n != nil && n.GetAutoCreate())
	case strategyUser:
		return made(prefix, prefixUser, "user", in.UserID, create, strategyUser, in.OrgID, in.UserID)
	case strategyProfile:
		return made(prefix, prefixProfile, "profile", in.ProfileName, create, strategyProfile, in.OrgID, in.ProfileName)
	case strategyOrg, "":
		if n.GetStrategy() == "" && n.GetStaticNamespace() != "" {
			return Namespace{}, invalidNamespace("namespace.strategy", "is not set, so that static_namespace %q has no effect; set it to %q", n.GetStaticNamespace(), strategyStatic)
		}
		if name := prefixOrg + in.OrgID; prefix == "" && !hashed(name) && isLabel(name) {
			return Namespace{Name: name, Create: create}, nil
		}
		return made(prefix, prefixOrg, "organization", in.OrgID, create, strategyOrg, in.OrgID)
	}
	return Namespace{}, invalidNamespace("namespace.strategy", "%s", tree.NoneOf(n.GetStrategy(), []string{strategyUser, strategyOrg, strategyProfile, strategyStatic}))
}

func static(name string, create bool) (Namespace, error) {
	if name == "" {
		return Namespace{}, invalidNamespace("namespace.static_namespace", "is not set, and the strategy is %q", strategyStatic)
	}
	if why := badStatic(name); why != "" {
		return Namespace{}, invalidNamespace("namespace.static_namespace", "%s", why)
	}
	return Namespace{Name: name, Create: create}, nil
}

func made(prefix, fallback, kind, id string, create bool, parts ...string) (Namespace, error) {
	prefix = either(prefix, fallback)
	if id == "" {
		return Namespace{}, invalidNamespace("namespace.strategy", "%q needs a %s, and this launch has none", parts[0], kind)
	}
	if why := badPrefix(prefix); why != "" {
		return Namespace{}, invalidNamespace("namespace.namespace_prefix", "%s", why)
	}
	return Namespace{Name: hashedName(prefix, id, append(parts, prefix)...), Create: create}, nil
}

// badStatic says why sandboxes cannot run in the namespace, "" when they can.
func badStatic(name string) string {
	if !isLabel(name) {
		return fmt.Sprintf("%q is no namespace: %s", clip(name), labelForm)
	}
	return kubesOwn(name)
}

// badPrefix says why namespaces cannot begin like this, "" when they can.
func badPrefix(prefix string) string {
	if !isLabel(prefix + strings.Repeat("0", hashLen)) {
		return fmt.Sprintf("%q begins no namespace: at most %d of a-z, 0-9 and -, the first no -", clip(prefix), maxLabel-hashLen)
	}
	return kubesOwn(prefix)
}

func kubesOwn(name string) string {
	if !strings.HasPrefix(name, reservedNamespaces) {
		return ""
	}
	return fmt.Sprintf("%q belongs to Kubernetes: names that begin with %q are not for sandboxes", name, reservedNamespaces)
}

func invalidNamespace(path, format string, args ...any) error {
	return fault.Invalidf(fault.ReasonFieldInvalid, "the sandbox has no namespace to run in").WithField(path, format, args...)
}
