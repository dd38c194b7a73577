package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// cluster is an API server with one node.
type cluster struct {
	// reached says that inits answer. Without that it is as with nodes that are made up in a real cluster: pods run, and nobody is there.
	reached bool
	inits   *inits

	mu      sync.Mutex
	version int
	pods    map[string]*corev1.Pod
	// log has every change since the start, changed is closed, and replaced, with each.
	log     []change
	changed chan struct{}
	// lists, links and refused count what was asked.
	lists, links, asked int
}

type change struct {
	version int
	kind    watch.EventType
	pod     *corev1.Pod
}

func newCluster(reached bool) *cluster {
	return &cluster{reached: reached, inits: newInits(), pods: map[string]*corev1.Pod{}, changed: make(chan struct{})}
}

// put makes pod the present state, with the lock held.
func (c *cluster) put(kind watch.EventType, pod *corev1.Pod) {
	c.version++
	pod.ResourceVersion = strconv.Itoa(c.version)
	key := pod.Namespace + "/" + pod.Name
	if kind == watch.Deleted {
		delete(c.pods, key)
	} else {
		c.pods[key] = pod
	}
	c.log = append(c.log, change{c.version, kind, pod})
	close(c.changed)
	c.changed = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	// /api/v1/RESOURCE, /api/v1/namespaces/NAME[/RESOURCE/NAME[/SUB]], /apis/GROUP/VERSION/RESOURCE
	switch {
	case path[0] == "api" && len(path) == 3 && path[2] == "pods":
		c.listPods(w, r)
	case path[0] == "api" && len(path) == 3 && path[2] == "nodes":
		follow(w, r, &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Node{node()}})
	case path[0] == "apis" && path[len(path)-1] == "runtimeclasses":
		follow(w, r, &nodev1.RuntimeClassList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}})
	case path[0] == "apis" && path[len(path)-1] == "selfsubjectaccessreviews":
		reply(w, r, http.StatusCreated, &authv1.SelfSubjectAccessReview{Status: authv1.SubjectAccessReviewStatus{Allowed: true}})
	case path[0] == "api" && len(path) == 4 && path[2] == "namespaces":
		reply(w, r, http.StatusOK, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: path[3], UID: "11111111-2222-4333-8444-555555555555"}})
	case path[0] == "api" && len(path) == 3 && path[2] == "namespaces":
		reply(w, r, http.StatusCreated, &corev1.Namespace{})
	case len(path) >= 6 && path[4] == "pods":
		c.onePod(w, r, path[3]+"/"+path[5], strings.Join(path[6:], ""))
	default:
		reply(w, r, http.StatusOK, &corev1.Event{}) // Events, and what else nobody looks at.
	}
}

// onePod serves what is asked of one pod.
func (c *cluster) onePod(w http.ResponseWriter, r *http.Request, key, sub string) {
	c.mu.Lock()
	pod := c.pods[key]
	c.asked++
	c.mu.Unlock()
	switch {
	case r.Method == http.MethodPatch:
		c.apply(w, r, key)
	case pod == nil:
		refuse(w, r, http.StatusNotFound, metav1.StatusReasonNotFound, "there is no pod "+key)
	case r.Method == http.MethodDelete:
		c.end(pod)
		reply(w, r, http.StatusOK, pod)
	case !c.reached && sub != "":
		refuse(w, r, http.StatusInternalServerError, metav1.StatusReasonInternalError, "no node answers")
	case sub == "log":
		_, _ = fmt.Fprint(w, c.inits.journal(pod))
	case sub == "exec":
		c.mu.Lock()
		c.links++
		c.mu.Unlock()
		c.inits.connect(w, r, pod)
	default:
		reply(w, r, http.StatusOK, pod)
	}
}

// apply makes a pod, which its node runs at once.
func (c *cluster) apply(w http.ResponseWriter, r *http.Request, key string) {
	pod := &corev1.Pod{}
	if err := json.NewDecoder(r.Body).Decode(pod); err != nil {
		refuse(w, r, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	namespace, _, _ := strings.Cut(key, "/")
	pod.Namespace = namespace
	made := metav1.NewTime(time.Now())
	c.mu.Lock()
	pod.UID = types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", c.version+1, c.version+1))
	pod.CreationTimestamp = made
	pod.Spec.NodeName = "made-up"
	pod.Status.Phase = corev1.PodPending
	c.put(watch.Added, pod.DeepCopy())
	runs := pod.DeepCopy()
	runs.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "198.51.100.1", StartTime: &made,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: made}, {Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: made},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: made}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: made},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Image: pod.Spec.Containers[0].Image, ContainerID: "made-up://" + string(pod.UID), Ready: true, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: made}},
		}},
	}
	c.put(watch.Modified, runs)
	c.mu.Unlock()
	reply(w, r, http.StatusCreated, pod)
}

// end ends a pod as its node would, and removes it.
func (c *cluster) end(pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	over := pod.DeepCopy()
	now := metav1.Now()
	over.DeletionTimestamp = &now
	over.Status.Phase = corev1.PodFailed
	over.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 143, Reason: "Error", FinishedAt: now}}
	c.put(watch.Modified, over)
	c.put(watch.Deleted, over.DeepCopy())
}

// listPods serves a list, or a watch, of the pods.
func (c *cluster) listPods(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c.mu.Lock()
	at, list := c.version, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(c.version)}}
	if q.Get("watch") == "" || q.Get("sendInitialEvents") == "true" {
		c.lists++
		for _, p := range c.pods {
			list.Items = append(list.Items, *p)
		}
	}
	c.mu.Unlock()
	if q.Get("watch") == "" {
		reply(w, r, http.StatusOK, list)
		return
	}
	events := newEvents(w, r)
	if q.Get("sendInitialEvents") == "true" {
		for i := range list.Items {
			events.send(watch.Added, &list.Items[i])
		}
		events.send(watch.Bookmark, bookmark(&corev1.Pod{}, list.ResourceVersion))
	} else {
		at, _ = strconv.Atoi(q.Get("resourceVersion"))
	}
	c.tell(r.Context(), events, at)
}

// tell tells of changes behind a version, until ctx ends.
func (c *cluster) tell(ctx context.Context, events *events, at int) {
	for {
		c.mu.Lock()
		var news []change
		if at < c.version { // Each change is one version.
			news = c.log[at:]
		}
		changed := c.changed
		c.mu.Unlock()
		for _, n := range news {
			events.send(n.kind, n.pod)
			at = n.version
		}
		events.flush()
		if len(news) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func node() corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "made-up", UID: "66666666-7777-4888-8999-000000000000", ResourceVersion: "1"}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000000"), corev1.ResourceMemory: resource.MustParse("1000Ti"), corev1.ResourcePods: resource.MustParse("100000"),
	}
	n.Status.NodeInfo.Architecture = "amd64"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

// bookmark says that what there was has been told.
func bookmark(object metav1.Object, version string) runtime.Object {
	object.SetResourceVersion(version)
	object.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return object.(runtime.Object)
}
