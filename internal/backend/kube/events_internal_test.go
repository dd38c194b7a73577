package kube

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/rest"

	"github.com/bermhq/berm/internal/core"
)

// eventServer is an API server that takes events, and tells what it got as "METHOD path: type reason message of NAMESPACE/POD UID".
func eventServer(t *testing.T) (*cluster, <-chan string) {
	t.Helper()
	quiet() // as any backend does before its events
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	codec := protobuf.NewSerializer(scheme, scheme)
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		e := &corev1.Event{}
		if r.Method == http.MethodPost {
			if _, _, err := codec.Decode(body, nil, e); err != nil {
				t.Errorf("%s: %v", r.URL.Path, err)
			}
		}
		o := e.InvolvedObject
		got <- fmt.Sprintf("%s %s: %s %s %s of %s/%s %s", r.Method, r.URL.Path, e.Type, e.Reason, e.Message, o.Namespace, o.Name, o.UID)
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		w.WriteHeader(http.StatusCreated)
		if err := codec.Encode(e, w); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	c, err := newCluster(&rest.Config{Host: server.URL, QPS: clientQPS, Burst: clientBurst})
	if err != nil {
		t.Fatal(err)
	}
	return c, got
}

func next(t *testing.T, got <-chan string) string {
	t.Helper()
	select {
	case text := <-got:
		return text
	case <-time.After(time.Minute):
		t.Fatal("no event came")
		return ""
	}
}

// TestEventsOnPods: what Berm does by itself is told on the pod; what callers ask for is not.
func TestEventsOnPods(t *testing.T) {
	c, got := eventServer(t)
	e := newPodEvents(c)
	defer e.close()
	s := &sandbox{id: "id", namespace: "agents", name: "pod", uid: "u-1"}
	for _, why := range []string{core.EndStopped, core.EndDeleted, core.EndExited} {
		e.note(s, why, "no event")
	}
	e.note(s, core.EndIdle, "idle")
	e.note(s, core.EndImageFailed, strings.Repeat("x", 2*core.MaxEventText))
	if text := next(t, got); text != "POST /api/v1/namespaces/agents/events: Normal SandboxIdle idle of agents/pod u-1" {
		t.Error(text)
	}
	if text := next(t, got); !strings.Contains(text, "Warning SandboxImageFailed xxx") || len(text) > 2*core.MaxEventText {
		t.Error(text)
	}
}

// TestEventsAreFew: one that repeats is counted on the first, and a pod that has many gets no more.
func TestEventsAreFew(t *testing.T) {
	c, got := eventServer(t)
	e := newPodEvents(c)
	defer e.close()
	s := &sandbox{id: "id", namespace: "agents", name: "pod", uid: "u-1"}
	e.note(s, core.EndIdle, "idle")
	next(t, got)
	e.note(s, core.EndIdle, "idle")
	if text := next(t, got); !strings.HasPrefix(text, "PATCH /api/v1/namespaces/agents/events/pod.") {
		t.Errorf("one that repeats came as %s", text)
	}
	for range 60 { // fewer than the queue takes
		e.note(s, core.EndIdle, "idle")
	}
	other := &sandbox{id: "other", namespace: "agents", name: "other", uid: "u-2"}
	e.note(other, core.EndIdle, "last")
	n := 2
	for ; !strings.Contains(next(t, got), "last"); n++ {
	}
	if n != 25 {
		t.Errorf("a pod got %d events", n)
	}
}
