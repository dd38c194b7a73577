package kube

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core/fault"
)

// hostImage is the built-in image of the local backend: the machine's own /usr. No cluster can have it.
const hostImage = "host"

// generate returns the pod before the profile's fragment is merged into it.
func generate(in PodInput, namespace string, f *files) (*corev1.Pod, error) {
	meta, err := objectMeta(in, namespace)
	if err != nil {
		return nil, err
	}
	main, err := mainContainer(in, f)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			Containers:    []corev1.Container{*main},
			Volumes:       f.volumes,
			RestartPolicy: corev1.RestartPolicyNever,
			// Off unless the fragment says otherwise: a sandbox has no business with the API server, and the addresses of
			// neighbouring services are not for it.
			AutomountServiceAccountToken: new(false),
			EnableServiceLinks:           new(false),
			ActiveDeadlineSeconds:        lifetime(in),
		},
	}
	if class := in.Spec.GetRuntimeClass(); class != "" && class != DefaultRuntimeClass {
		pod.Spec.RuntimeClassName = &class
	}
	return pod, nil
}

// lifetime returns after how many seconds the kubelet ends the pod, nil for never. The runner stops a sandbox earlier, with
// a grace; this holds when the runner is away.
func lifetime(in PodInput) *int64 {
	if in.LifetimeSeconds <= 0 {
		return nil
	}
	return new(int64(in.LifetimeSeconds))
}

// checkImage refuses a pod without an image that a cluster can pull.
func checkImage(image string) error {
	switch image {
	case "":
		return fault.Invalidf(fault.ReasonUnresolvable, "the sandbox has no image").
			WithField("container_image", "is set by no layer").
			WithHint("give the launch an image, or set container_image in the profile")
	case hostImage:
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField("container_image", "%q is the machine itself, which only the local backend can show to a sandbox; name an image", image)
	}
	return nil
}
