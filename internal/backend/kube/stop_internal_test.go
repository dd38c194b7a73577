package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// objects is an API server that has what it is given until that is deleted, and tells nobody by itself.
type objects struct {
	mu sync.Mutex
	// held has each object by its path, deleted the paths of all requests to delete.
	held    map[string]map[string]any
	deleted []string
	// refused is a resource of which nothing is taken; onDelete is called before a deletion is answered.
	refused  string
	onDelete func(path string)
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	o.mu.Lock()
	code, answer := o.serve(r)
	o.mu.Unlock()
	if r.Method == http.MethodDelete && o.onDelete != nil {
		o.onDelete(r.URL.Path)
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func (o *objects) serve(r *http.Request) (int, any) {
	at, resource := r.URL.Path, path.Base(path.Dir(r.URL.Path))
	status := func(code int32, reason metav1.StatusReason) (int, any) {
		return int(code), metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: code, Reason: reason}
	}
	switch r.Method {
	case http.MethodPost:
		return http.StatusCreated, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
	case http.MethodPatch:
		if resource == o.refused {
			return status(http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		body, _ := io.ReadAll(r.Body)
		made := map[string]any{}
		if err := json.Unmarshal(body, &made); err != nil {
			return status(http.StatusBadRequest, metav1.StatusReasonBadRequest)
		}
		meta := made["metadata"].(map[string]any) //nolint:forcetypeassert // every object has it
		meta["uid"], meta["creationTimestamp"] = "uid-of-"+path.Base(at), metav1.Now()
		o.held[at] = made
		return http.StatusOK, made
	case http.MethodDelete:
		o.deleted = append(o.deleted, at)
		if o.held[at] == nil {
			return status(http.StatusNotFound, metav1.StatusReasonNotFound)
		}
		delete(o.held, at)
		return http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
	}
	if path.Base(at) != "secrets" {
		return status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
	}
	return http.StatusOK, o.page(r)
}

// page lists Secrets one at a time, whatever limit is asked for: an API server may.
func (o *objects) page(r *http.Request) any {
	var all []string
	for at := range o.held {
		if strings.Contains(at, "/secrets/") && at > r.URL.Query().Get("continue") {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	list := map[string]any{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "items": []any{}}
	if len(all) > 0 {
		list["items"] = []any{o.held[all[0]]}
	}
	if len(all) > 1 {
		list["metadata"] = map[string]any{"continue": all[0]}
	}
	return list
}

// left returns the names of what there is still.
func (o *objects) left() (names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := range o.held {
		names = append(names, path.Base(at))
	}
	slices.Sort(names)
	return names
}

// amid is a backend at an API server of its own.
func amid(t *testing.T) (*Backend, *objects) {
	t.Helper()
	o := &objects{held: map[string]map[string]any{}}
	api := httptest.NewServer(o)
	t.Cleanup(api.Close)
	return backendAt(t, api.URL), o
}

// withFiles is a work of a sandbox with so many secrets and mounted files.
func withFiles(id string, secrets, files int) *backend.Work {
	w := &backend.Work{
		SandboxID: id, OrgID: "o", UserID: "u", ProfileName: "agent",
		Spec: &specpb.ProfileSpec{ContainerImage: new("python")}, Launch: &specpb.Launch{Idle: true},
	}
	for i := range secrets {
		name := fmt.Sprintf("SECRET_%d", i)
		w.Launch.SecretStores = append(w.Launch.SecretStores, &specpb.SecretStoreUse{StoreName: "team", Secrets: []*specpb.SecretUse{{Path: "p", EnvVar: name}}})
		w.Secrets = append(w.Secrets, core.Secret{EnvVar: name, Value: "hunter2"})
	}
	for i := range files {
		w.Launch.MountedFiles = append(w.Launch.MountedFiles, &specpb.MountedFile{Path: fmt.Sprintf("/file-%d", i), Content: []byte("x")})
	}
	return w
}

// TestDeleteLeavesNothing: all that was made for a sandbox goes with it, and each costs one deletion.
func TestDeleteLeavesNothing(t *testing.T) {
	for _, c := range []struct{ secrets, files, deletions int }{{0, 0, 1}, {0, 2, 2}, {2, 0, 2}, {1, 1, 2}} {
		b, api := amid(t)
		w := withFiles("s", c.secrets, c.files)
		if err := b.Create(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if n := len(api.left()); n != c.deletions {
			t.Fatalf("%d secrets and %d files make %v", c.secrets, c.files, api.left())
		}
		b.publish(b.sandboxes["s"], backend.Observation{Phase: backend.PhaseEnded})
		if err := b.Delete(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		if left := api.left(); len(left) > 0 || len(api.deleted) != c.deletions {
			t.Errorf("of %d secrets and %d files is left: %v; deleted: %v", c.secrets, c.files, left, api.deleted)
		}
	}
}

// TestRefusedLeavesNothing: values do not stay on the cluster for a sandbox whose pod it does not take.
func TestRefusedLeavesNothing(t *testing.T) {
	b, api := amid(t)
	api.refused = "pods"
	if err := b.Create(t.Context(), withFiles("s", 1, 0)); err == nil || fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v", err)
	}
	if left := api.left(); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
}

// TestSweep: what a runner left that died before it made a pod goes once that is long ago, and what is of a sandbox, or new, stays.
func TestSweep(t *testing.T) {
	b, api := amid(t)
	if err := b.Create(t.Context(), withFiles("there", 1, 0)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"left", "also-left", "new"} {
		o, err := ObjectsFor(PodInput{Work: *withFiles(id, 1, 0), Options: b.cfg.Options})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.cluster.apply(t.Context(), o.Secret.Namespace, "secrets", o.Secret.Name, bare(o.Secret)); err != nil {
			t.Fatal(err)
		}
	}
	for at, object := range api.held {
		if !strings.Contains(at, "new") {
			object["metadata"].(map[string]any)["creationTimestamp"] = metav1.NewTime(time.Now().Add(-orphanAge)) //nolint:forcetypeassert // every object has it
		}
	}
	b.sweepBeside(t.Context())
	if want := []string{"sandbox-new-files", "sandbox-there", "sandbox-there-files"}; !slices.Equal(api.left(), want) {
		t.Errorf("left is %v, want %v", api.left(), want)
	}
}

// TestDeletedIsForgotten: nothing is remembered of a sandbox that was deleted, whether the cluster tells that its pod is gone before it answers,
// or afterwards.
func TestDeletedIsForgotten(t *testing.T) {
	for _, first := range []string{"the news", "the answer"} {
		b, api := amid(t)
		pods := sightings{b, func() {}}
		for i := range 10 {
			pod := podOf(fmt.Sprint(i), fmt.Sprint("uid-", i))
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: MainContainer}}
			if err := pods.Add(pod); err != nil {
				t.Fatal(err)
			}
			b.publish(b.sandboxes[fmt.Sprint(i)], backend.Observation{Phase: backend.PhaseEnded})
			news := func() { _ = pods.Delete(pod) }
			if first == "the news" {
				api.onDelete = func(at string) {
					if strings.Contains(at, "/pods/") {
						news()
					}
				}
			}
			if err := b.Delete(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if first == "the answer" {
				if err := pods.Update(pod); err != nil { // It is told of as it was.
					t.Fatal(err)
				}
				news()
			}
		}
		b.mu.Lock()
		if len(b.deleted) > 0 || len(b.sandboxes) > 0 {
			t.Errorf("%s first: %d are remembered as deleted, %d as sandboxes", first, len(b.deleted), len(b.sandboxes))
		}
		b.mu.Unlock()
	}
}
