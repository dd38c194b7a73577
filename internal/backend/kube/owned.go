package kube

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/core/tree"
)

// Some keys of a pod are decided elsewhere. A fragment that set them too would win the merge, and with that go round
// guardrails, change a request behind its author's back and make `berm explain` lie. They are refused instead.

// ownedByPod says who decides a key of the pod, "" when the fragment may.
func ownedByPod(key string) string {
	switch key {
	case "runtimeClassName":
		return "is decided by runtime_class; set that"
	case "activeDeadlineSeconds":
		return "is decided by the request's max_lifetime_seconds and guardrails.lifetime; set those"
	case "resources":
		return "is decided by resource_defaults and the request; set those"
	case "shareProcessNamespace":
		return "is fixed: process 1 of the main container is Berm's init, which sees the sandbox's processes alone"
	case "ephemeralContainers":
		return "cannot be part of a pod that is created"
	}
	return ""
}

// ownedByMain says who decides a key of the main container, "" when the fragment may.
func ownedByMain(key string) string {
	switch key {
	case "image":
		return "is decided by container_image; set that"
	case "command", "args":
		return "is decided by the request"
	case "tty", "stdin", "stdinOnce":
		return "is fixed: the container's streams are those of Berm's init, which gives commands terminals of their own"
	case "restartPolicy", "restartPolicyRules":
		return "is fixed: the main process of a sandbox runs once"
	}
	return ""
}

// ownedResource says who decides a resource of the main container, "" when the fragment may.
func ownedResource(name string) string {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory:
		return "is decided by resource_defaults and the request; set those"
	case ResourceGPU:
		return "is decided by the request"
	default:
		return ""
	}
}

// checkOwned reports what a fragment may not say. Values of the wrong type are passed over: the decoder reports them.
func checkOwned(p *tree.Problems, fragment *structpb.Struct) {
	fields := fragment.GetFields()
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if why := ownedByPod(key); why != "" {
			p.Add(nil, fragmentPath+"."+key, "%s", why)
		}
	}
	if policy, set := fields["restartPolicy"]; set && policy.GetStringValue() != string(corev1.RestartPolicyNever) {
		p.Add(nil, fragmentPath+".restartPolicy", "is always %s: the main process of a sandbox runs once", corev1.RestartPolicyNever)
	}
	names := map[string]bool{}
	checkContainers(p, fields["containers"], "containers", names)
	checkContainers(p, fields["initContainers"], "initContainers", names)
	for i, volume := range fields["volumes"].GetListValue().GetValues() {
		if name := text(volume, "name"); strings.HasPrefix(name, volumePrefix) {
			p.Add(nil, at("volumes", i)+".name", "%q: names that begin with %q are for volumes of Berm's own", name, volumePrefix)
		}
	}
}

func checkContainers(p *tree.Problems, list *structpb.Value, key string, names map[string]bool) {
	for i, c := range list.GetListValue().GetValues() {
		if c.GetStructValue() == nil {
			continue
		}
		path, name := at(key, i), text(c, "name")
		main := isMain(name)
		if main && key == "containers" {
			name = MainContainer
			checkMain(p, c.GetStructValue(), path)
		} else if main {
			p.Add(nil, path+".name", "an init container has a name of its own, not %q: that is the container of the request's command", name)
		} else {
			checkExtra(p, c, path, name)
		}
		if names[name] {
			p.Add(nil, path+".name", "%q is there twice", name)
		}
		names[name] = true
	}
}

// checkExtra reports what an init container or sidecar lacks: nothing else gives it a name and an image.
func checkExtra(p *tree.Problems, c *structpb.Value, path, name string) {
	if !isLabel(name) {
		p.Add(nil, path+".name", "%q is no container name: %s", clip(name), labelForm)
	}
	if name == InitContainer {
		p.Add(nil, path+".name", "%q is the container that brings Berm's init", name)
	}
	if text(c, "image") == "" {
		p.Add(nil, path+".image", "is not set: a container of the profile's own needs an image; only the one named %q, or \"\", has the sandbox's", MainContainer)
	}
}

func checkMain(p *tree.Problems, c *structpb.Struct, path string) {
	for _, key := range slices.Sorted(maps.Keys(c.GetFields())) {
		if why := ownedByMain(key); why != "" {
			p.Add(nil, path+"."+key, "%s", why)
		}
	}
	for _, list := range []string{"limits", "requests"} {
		amounts := c.GetFields()["resources"].GetStructValue().GetFields()[list].GetStructValue().GetFields()
		for _, name := range slices.Sorted(maps.Keys(amounts)) {
			if why := ownedResource(name); why != "" {
				p.Add(nil, path+".resources."+list+"["+name+"]", "%s", why)
			}
		}
	}
}

// isMain reports whether a fragment's container patches the main one.
func isMain(name string) bool { return name == "" || name == MainContainer }

func text(v *structpb.Value, key string) string {
	return v.GetStructValue().GetFields()[key].GetStringValue()
}

func at(key string, i int) string { return fragmentPath + "." + key + "[" + strconv.Itoa(i) + "]" }
