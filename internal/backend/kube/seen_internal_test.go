package kube

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// alone is a backend whose cluster does not answer.
func alone(t *testing.T) *Backend {
	t.Helper()
	return backendAt(t, "http://127.0.0.1:1")
}

// backendAt is a backend at the API server at url.
func backendAt(t *testing.T, url string) *Backend {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: "` + url + `"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), Config{Dir: t.TempDir(), RunnerName: "alone", Kubeconfig: path, Options: Options{InitImage: "init"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestAnswerThatComesLate: what the API server answered to the making of a pod does not undo what was seen of the pod meanwhile.
func TestAnswerThatComesLate(t *testing.T) {
	b := alone(t)
	made := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", Annotations: map[string]string{LabelSandbox: "s"}}}
	runs := made.DeepCopy()
	runs.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: MainContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	seen := func(pod *corev1.Pod) *sighting {
		g, err := sight(pod)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	b.answered(seen(made))
	b.take(seen(runs), false)
	b.answered(seen(made))
	if s := b.sandboxes["s"]; mainState(s.podNow()).Running == nil {
		t.Error("the answer undid that it runs")
	}
	b.take(seen(made), false)
	if s := b.sandboxes["s"]; mainState(s.podNow()).Running != nil {
		t.Error("what is seen later counts for nothing")
	}
}
