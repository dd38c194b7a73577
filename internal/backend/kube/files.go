package kube

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
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

// files are the mounted files of a sandbox in Kubernetes' terms. The zero value has none.
type files struct {
	secret  *corev1.Secret
	volumes []corev1.Volume
	mounts  []corev1.VolumeMount
}

// filesFor returns a secret with the files of the request, a volume of it, and one read-only mount per file. Each is
// mounted by its own path, so that the directory around it stays the image's.
func filesFor(in PodInput, namespace string) (*files, error) {
	list := in.Launch.GetMountedFiles()
	if len(list) == 0 {
		return &files{}, nil
	}
	if err := checkFiles(list); err != nil {
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
		Type: corev1.SecretTypeOpaque, Immutable: new(true), Data: make(map[string][]byte, len(list)),
	}
	f := &files{secret: s}
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

// checkFiles refuses what Kubernetes has no place for. That paths are absolute, plain and distinct was checked with the
// request; it is repeated as far as a merge by path would hide it.
func checkFiles(list []*specpb.MountedFile) error {
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
	if total > MaxMountedBytes {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot run this sandbox").
			WithField("mounted_files", "%d bytes together; a Kubernetes secret holds %d", total, MaxMountedBytes).
			WithHint("write larger files with AddFile once the sandbox runs")
	}
	return nil
}
