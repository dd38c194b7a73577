package kube

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

const (
	// MaxMountedBytes is how many bytes the mounted files of one sandbox may have together on Kubernetes: what a Secret holds.
	MaxMountedBytes = corev1.MaxSecretSize
	// volumePrefix begins the names of volumes that Berm adds.
	volumePrefix = "berm-"
	filesVolume  = volumePrefix + "files"
	filesSuffix  = "-files"
	// filesMode lets every user of the sandbox read the files; nobody can write them.
	filesMode int32 = 0o444
)

// files are the mounted files and the secrets of a sandbox in Kubernetes' terms. The zero value has none.
type files struct {
	secret *corev1.Secret
	// env are variables that come from the secret: their values are not in the pod.
	env     []corev1.EnvVar
	volumes []corev1.Volume
	mounts  []corev1.VolumeMount
}

// filesFor returns a secret with the files of the request, a volume of it, and one read-only mount per file. Each is
// mounted by its own path, so that the directory around it stays the image's. What the request takes from secret stores is in the same secret.
func filesFor(in PodInput, namespace string) (*files, error) {
	list := in.Launch.GetMountedFiles()
	variables := secretVariables(in.Launch)
	if len(list) == 0 && len(variables) == 0 {
		return &files{}, nil
	}
	if err := checkFiles(list, in.Secrets); err != nil {
		return nil, err
	}
	labels, annotations := ownMetadata(in)
	delete(annotations, AnnotationEgress)
	delete(annotations, AnnotationIngress)
	s := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: podName(in.SandboxID) + filesSuffix, Namespace: namespace, Labels: labels, Annotations: annotations,
		},
		Type: corev1.SecretTypeOpaque, Immutable: new(true), Data: make(map[string][]byte, len(list)+len(variables)),
	}
	f := &files{secret: s, env: secretEnv(s, variables, in.Secrets)}
	if len(list) == 0 {
		return f, nil
	}
	for i, file := range list {
		key := "file-" + strconv.Itoa(i)
		s.Data[key] = append([]byte{}, file.GetContent()...) // never nil: an empty file is not a missing one
		f.mounts = append(f.mounts, corev1.VolumeMount{Name: filesVolume, MountPath: file.GetPath(), SubPath: key, ReadOnly: true})
	}
	f.volumes = []corev1.Volume{{Name: filesVolume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{DefaultMode: new(filesMode), Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: s.Name}}},
		}},
	}}}
	return f, nil
}

// secretVariables returns the names of the variables that a launch takes from secret stores.
func secretVariables(l *specpb.Launch) []string {
	names := map[string]bool{}
	for _, use := range l.GetSecretStores() {
		for _, s := range use.GetSecrets() {
			names[s.GetEnvVar()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// secretEnv puts values into the secret of a sandbox, and returns variables that refer to them. Where a launch is only looked at there are
// no values.
func secretEnv(into *corev1.Secret, names []string, values []core.Secret) []corev1.EnvVar {
	var out []corev1.EnvVar
	for i, name := range names {
		key := "env-" + strconv.Itoa(i)
		for _, v := range values {
			if v.EnvVar == name {
				into.Data[key] = []byte(v.Value)
			}
		}
		out = append(out, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: into.Name}, Key: key,
		}}})
	}
	return out
}

// checkFiles refuses what Kubernetes has no place for. That paths are absolute, plain and distinct was checked with the
// request; it is repeated as far as a merge by path would hide it.
func checkFiles(list []*specpb.MountedFile, secrets []core.Secret) error {
	var p tree.Problems
	seen, total := make(map[string]bool, len(list)), 0
	for i, file := range list {
		at, path := "mounted_files["+strconv.Itoa(i)+"]", file.GetPath()
		total += len(file.GetContent())
		switch {
		case !strings.HasPrefix(path, "/"):
			p.Add(nil, at+".mount_path", "%q is not absolute", path)
		case strings.Contains(path, ":"):
			p.Add(nil, at+".mount_path", "%q has a colon, which Kubernetes does not take in a path", path)
		case seen[path]:
			p.Add(nil, at+".mount_path", "%q is given twice", path)
		}
		seen[path] = true
	}
	if err := p.Err("the mounted files make no pod"); err != nil {
		return err
	}
	files := total
	for _, s := range secrets {
		total += len(s.Value)
	}
	if total > MaxMountedBytes && files < total {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField("secret_stores", "secrets and mounted files have %d bytes together; a Kubernetes secret holds %d", total, MaxMountedBytes)
	}
	if total > MaxMountedBytes {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField("mounted_files", "%d bytes together; a Kubernetes secret holds %d", total, MaxMountedBytes).
			WithHint("write larger files with AddFile once the sandbox runs")
	}
	return nil
}
