package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// InitContainer brings Berm's init into the pod.
	InitContainer = "berm-init"
	// DefaultInitImage is the image that it is taken from where a plan is made without a cluster.
	DefaultInitImage = "berm-init"
	// DefaultRuntimeClass is what a pod without a runtime class runs in: the node's own choice.
	DefaultRuntimeClass = "node-default"

	initVolume  = volumePrefix + "init"
	initDir     = "/.berm"
	initProgram = initDir + "/berm-shim"
	// imageProgram is where the init is in its image.
	imageProgram = "/berm-shim"
	// initUser runs the copy. It is nobody's user, so that who is not root cannot read the program.
	initUser int64 = 65532
	// noKey stands in the pod of a plan for the key that a runner has.
	noKey = "RUNNER_KEY"
)

// InitFrom is how Berm's init gets from its image into a pod.
type InitFrom string

// The ways.
const (
	// InitFromContainer has an init container copy it into a volume, which every cluster can do.
	InitFromContainer InitFrom = ""
	// InitFromImage mounts the image, which saves the start of a container (ADR 27). Pods whose network is held from within have the init
	// container all the same: it writes the rules.
	InitFromImage InitFrom = "image-volume"
)

// inject makes Berm's init process 1 of the main container. It comes from an image by way of a volume, so that the sandbox's own image
// needs nothing, and starts the request's command, whose image alone would know another.
func inject(pod *corev1.PodSpec, in PodInput) error {
	argv, err := argvOf(in)
	if err != nil {
		return err
	}
	if pod.HostPID {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField(fragmentPath+".hostPID", "Berm's init must be process 1 of the sandbox, and is not among the processes of the node")
	}
	at := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == MainContainer })
	if at < 0 {
		return fault.Internalf(nil, "the pod has no main container")
	}
	main := &pod.Containers[at]
	main.Command = []string{initProgram, "pod", either(in.Options.RunnerKey, noKey)}
	main.Args = argv
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: initVolume, MountPath: initDir, ReadOnly: true})
	image := either(in.Options.InitImage, DefaultInitImage)
	guarded, err := guardPolicy(in)
	if err != nil {
		return err
	}
	if in.Options.InitFrom == InitFromImage && guarded == nil {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: initVolume, VolumeSource: corev1.VolumeSource{
			Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: corev1.PullIfNotPresent},
		}})
		return nil
	}
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: initVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	pod.InitContainers = slices.Insert(pod.InitContainers, 0, corev1.Container{
		Name: InitContainer, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command:      []string{imageProgram, "install", initDir},
		Resources:    shareOf(main.Resources),
		VolumeMounts: []corev1.VolumeMount{{Name: initVolume, MountPath: initDir}},
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(initUser), RunAsGroup: new(initUser), RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	})
	return nil
}

// argvOf returns the main process. Without one the sandbox idles, which a launch has to ask for: the image's own entrypoint is known
// to the node alone.
func argvOf(in PodInput) ([]string, error) {
	l := in.Launch
	switch {
	case l.GetIdle():
		return nil, nil
	case l.GetCommand() == "":
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField("command", "is not set; on Kubernetes the image's own entrypoint is not known to Berm, whose init starts the main process").
			WithHint("give the launch a command, or let it idle")
	}
	argv := []string{literal(l.GetCommand())}
	for _, a := range l.GetArgs() {
		argv = append(argv, literal(a))
	}
	return argv, nil
}

// shareOf returns the CPU and memory of the main container for one that runs before it, so that the pod needs no more for it.
func shareOf(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	keep := func(list corev1.ResourceList) corev1.ResourceList {
		out := maps.Clone(list)
		maps.DeleteFunc(out, func(name corev1.ResourceName, _ resource.Quantity) bool {
			return name != corev1.ResourceCPU && name != corev1.ResourceMemory
		})
		return out
	}
	return corev1.ResourceRequirements{Requests: keep(r.Requests), Limits: keep(r.Limits)}
}
