// Package kube turns a sandbox into Kubernetes objects: a namespace with its quota, a secret with the mounted files, a network policy, and the pod.
//
// ObjectsFor and PodFor are pure, so that `berm plan -o pod` prints the exact pod of any launch, with or without a
// cluster, and goldens can hold what an API server is sent. A pod is built in six steps, each in a file of its own:
//
//  1. generate: metadata, the main container, files and lifetime from the resolved spec and the request;
//  2. merge: the profile's pod fragment, strategic-merged once;
//  3. inject: Berm's init becomes process 1 of the main container, and starts the request's command;
//  4. constrain: node selector, instance types and GPU model, which hold whatever the fragment says;
//  5. harden: security defaults wherever the fragment left a choice open; guard: the egress mode, where pods are held to it from within;
//  6. recheck: what is dangerous in the result must come from the profile's fragment, and be allowed on the runner.
//
// A request reaches the pod only through its own fields. It can neither name a key of the fragment nor, by accident of a
// merge, change what a profile decided: whatever both would set is refused.
package kube

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// MainContainer is the name of the container that runs the request's command. A pod fragment patches it under this name
// or under the empty name.
const MainContainer = "main"

// Options are the conventions of a cluster and what its owner allows. The zero value suits a plain cluster.
type Options struct {
	// InstanceTypeLabel is the node label that instance_types are values of; "" is DefaultInstanceTypeLabel.
	InstanceTypeLabel string
	// GPUProductLabel and GPUMemoryLabel are the node labels with a GPU's model and its memory in MiB; "" is
	// DefaultGPUProductLabel and DefaultGPUMemoryLabel.
	GPUProductLabel, GPUMemoryLabel string
	// GPUProducts gives the model labels that a requested GPU type stands for. A type without an entry is itself the label.
	GPUProducts map[string][]string
	// OmitVendorLabels leaves out the labels under sandbox.coreweave.com that tools of the compatible platform look for.
	OmitVendorLabels bool
	// AllowPrivileged is the word of the cluster's owner that the pod fragment of a profile may exceed what a sandbox has by default,
	// where the runner allows it, too (Work.Privileged). It never widens what a request can do.
	AllowPrivileged bool
	// InitImage is the image that Berm's init comes from into every pod; "" is DefaultInitImage.
	InitImage string
	// InitFrom is how it comes.
	InitFrom InitFrom
	// Network says what becomes of egress modes.
	Network Network
	// DeniedEgress are ranges that no sandbox reaches, whatever profiles say: those of the cluster that are not private, for one.
	DeniedEgress []netip.Prefix
	// RunnerKey is the public key of the runner, which the init serves alone (package podwire).
	RunnerKey string
}

// PodInput is everything that a pod depends on. Runtime class, limits and modes are already resolved in Work.Spec.
type PodInput struct {
	backend.Work
	Options Options
}

// Objects are what makes a sandbox on a cluster, in the order of creation.
type Objects struct {
	// Namespace is nil when the profile wants it to exist beforehand.
	Namespace *corev1.Namespace
	// Quota is of the namespace; nil without any, and where the namespace is nil.
	Quota *corev1.ResourceQuota
	// Secret holds the mounted files; nil without any.
	Secret *corev1.Secret
	// Policy is the sandbox's NetworkPolicy; nil where modes do not become one.
	Policy *networkingv1.NetworkPolicy
	// Service is what the exposed ports are reached by; nil without any.
	Service *corev1.Service
	// Ingress is the host name that leads there, HTTPRoute the same at a Gateway; nil where the mode has none.
	Ingress   *networkingv1.Ingress
	HTTPRoute *gatewayapi.HTTPRoute
	Pod       *corev1.Pod
}

// PodFor returns the pod of a sandbox; ObjectsFor says what can be wrong.
func PodFor(in PodInput) (*corev1.Pod, error) {
	o, err := ObjectsFor(in)
	if err != nil {
		return nil, err
	}
	return o.Pod, nil
}

// ObjectsFor returns the objects of a sandbox. It is a pure function of its input, which it neither keeps nor changes.
//
// Errors are faults that name every field at fault: Invalid for a spec or request that no cluster could run, Precondition
// with BACKEND_UNSUPPORTED for what Kubernetes has no room for, Precondition with GUARDRAIL_VIOLATED for a pod that the
// runner's owner does not allow.
func ObjectsFor(in PodInput) (*Objects, error) {
	if in.SandboxID == "" || in.OrgID == "" {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "a pod needs the ids of its sandbox and organization")
	}
	ns, err := NamespaceFor(in)
	if err != nil {
		return nil, err
	}
	var p tree.Problems
	if checkNamespaceLabels(&p, in.Spec.GetNamespace().GetLabels()); p.Err("") != nil {
		return nil, p.Err("the namespace's labels are not allowed")
	}
	if err := checkMade(in, ns); err != nil {
		return nil, err
	}
	files, err := filesFor(in, ns.Name)
	if err != nil {
		return nil, err
	}
	pod, err := generate(in, ns.Name, files)
	if err != nil {
		return nil, err
	}
	fragment, err := fragmentOf(in.Spec.GetPod().GetSpec())
	if err != nil {
		return nil, err
	}
	if err := merge(&pod.Spec, fragment); err != nil {
		return nil, err
	}
	if err := inject(&pod.Spec, in); err != nil {
		return nil, err
	}
	if err := constrain(&pod.Spec, in); err != nil {
		return nil, err
	}
	harden(&pod.Spec)
	restrict(&pod.Spec, in.Spec.GetNamespace().GetPodSecurity())
	o := &Objects{Namespace: namespaceObject(in, ns), Secret: files.secret, Pod: pod}
	if err := o.expose(in, ns); err != nil {
		return nil, err
	}
	if o.Policy, err = policyFor(in, ns, o.Service); err != nil {
		return nil, err
	}
	if err := holdPod(pod, in, o.Policy, o.Service); err != nil {
		return nil, err
	}
	if err := refuse(Recheck(pod, carriedBy(in, fragment)), in); err != nil {
		return nil, err
	}
	if err := checkLevel(&pod.Spec, in); err != nil {
		return nil, err
	}
	if o.Quota, err = quotaFor(in, ns); err != nil {
		return nil, err
	}
	if err := checkCounted(&pod.Spec, o.Quota); err != nil {
		return nil, err
	}
	return o, nil
}

// expose adds what the ports of a sandbox are reached by, and names it on the pod.
func (o *Objects) expose(in PodInput, ns Namespace) (err error) {
	if o.Service, err = serviceFor(in, ns); err != nil || o.Service == nil {
		return err
	}
	if o.Ingress, err = ingressFor(in, o.Service); err != nil {
		return err
	}
	if o.HTTPRoute, err = httpRouteFor(in, o.Service); err != nil {
		return err
	}
	o.Pod.Annotations[AnnotationService] = o.Service.Name
	if o.Ingress != nil {
		o.Pod.Annotations[AnnotationRoute] = o.Ingress.Name
	}
	if o.HTTPRoute != nil {
		o.Pod.Annotations[AnnotationHTTPRoute] = o.HTTPRoute.Name
	}
	return nil
}

// refuse makes one fault of all findings.
func refuse(findings []Finding, in PodInput) error {
	if len(findings) == 0 {
		return nil
	}
	e := fault.Preconditionf(fault.ReasonGuardrailViolated, "the pod would have rights that sandboxes do not have")
	carried := false
	for _, f := range findings {
		if f.Carried {
			carried = true
			e.WithField(f.Path, "%s; the profile carries it, but %s does not allow it", f.What, unwilling(in))
		} else {
			e.WithField(f.Path, "%s; no profile carries it", f.What)
		}
	}
	if carried {
		e.WithHint("remove it from the profile; else it takes two: allow_privileged_profile_annotations of the runner, and --kube-allow-privileged where the runner is started")
	}
	return e
}

// unwilling says who does not allow privileges.
func unwilling(in PodInput) string {
	if in.Privileged {
		return "the owner of the cluster of " + orThis(in.RunnerID)
	}
	return orThis(in.RunnerID)
}

func orThis(runner string) string {
	if runner == "" {
		return "this runner"
	}
	return fmt.Sprintf("runner %q", runner)
}
