package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// firstLook is how long New waits for a cluster; what comes later is told of when it comes.
	firstLook = 5 * time.Second
	// unreachableAfter is how long an API server that was there may be away before the runner is said to be unable: one that is
	// restarted is not.
	unreachableAfter = 10 * time.Second
	// troubleTick is how often a trouble is looked at again, permissionTick how often permissions that are missing are.
	troubleTick    = time.Second
	permissionTick = 5 * time.Second
	// initRest is how long nothing is launched after the image of the init could not be pulled.
	initRest = 2 * time.Minute
)

// notYet is why nothing is run at first.
const notYet = "its cluster has not said yet what is on it"

// troubles is what keeps a runner from running anything, and since when. It is guarded by the backend's mu.
type troubles struct {
	// attempts has what the API server said last of attempts to follow a resource.
	attempts map[string]attempt
	// missing are permissions that the account lacks; reviewed says when they were asked for.
	missing  []string
	reviewed time.Time
	// initWorked: some pod got its init. initFailed says why one did not, while none did, until initUntil.
	initWorked bool
	initFailed string
	initUntil  time.Time
	// stranger says that this is not the cluster that it was.
	stranger string
	// said is the refusal that was said last, since then.
	said  string
	since time.Time
}

type attempt struct {
	err   error
	since time.Time
}

// attempted notes what became of an attempt to list or watch. One that comes too late for a version is made again at once.
func (b *Backend) attempted(ctx context.Context, resource string, err error) {
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	if u := new(url.Error); errors.As(err, &u) { // The address says nothing of use, and is another at each attempt.
		err = u.Err
	}
	b.mu.Lock()
	was := b.troubles.attempts[resource]
	if err == nil || was.err == nil {
		was.since = b.cfg.Now()
	}
	b.troubles.attempts[resource] = attempt{err, was.since}
	b.mu.Unlock()
	signal(b.lookAgain)
	if resource == gatewayapi.Gateways && err != nil {
		b.lookRouted()
	}
}

// review asks for permissions, once, and again while some are missing.
func (b *Backend) review() {
	b.mu.Lock()
	t := &b.troubles
	due := t.reviewed.IsZero() || len(t.missing) > 0 && b.cfg.Now().Sub(t.reviewed) >= permissionTick
	b.mu.Unlock()
	if !due {
		return
	}
	missing, err := b.missing(b.ctx)
	var status apierrors.APIStatus
	if err != nil && (!errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError || apierrors.IsUnauthorized(err)) {
		return // It could not be asked.
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.missing, t.reviewed = missing, b.cfg.Now()
}

// troubled reports whether what keeps the runner from running anything is to be looked at again by the clock.
func (b *Backend) troubled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.troubles
	for _, a := range t.attempts {
		if a.err != nil {
			return true
		}
	}
	return t.reviewed.IsZero() || len(t.missing) > 0 || t.initFailed != ""
}

// refuse says in info why nothing can be run, if so.
func (b *Backend) refuse(info *backend.Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.troubles
	info.Refusal, info.RefusalReason, info.RefusalHints = b.refusal(info.Refusal)
	if info.Refusal != "" && t.said == "" {
		t.since = b.cfg.Now()
	}
	if t.said = info.Refusal; info.Refusal != "" {
		info.RefusedSince = t.since
	}
}

// refusal returns the first of the reasons that there are; own is one that does not depend on the cluster. mu is held.
func (b *Backend) refusal(own string) (why, reason string, hints []string) {
	t := &b.troubles
	switch {
	case own != "":
		return own, fault.ReasonBackendUnsupported, nil
	case t.stranger != "":
		return t.stranger, fault.ReasonRunnerIdentity, []string{"Start the runner with the kubeconfig that it had, or with an empty --data directory and a new token."}
	case len(t.missing) > 0:
		return "its account may not " + strings.Join(t.missing, ", "), fault.ReasonClusterForbidden,
			[]string{"Give the account these verbs in all namespaces (docs/kubernetes.md, permissions); the runner sees it within seconds."}
	}
	for _, resource := range []string{"nodes", "pods"} {
		a := t.attempts[resource]
		switch {
		case a.err == nil:
		case apierrors.IsForbidden(a.err):
			return fmt.Sprintf("its account may not list and watch %s: %v", resource, a.err), fault.ReasonClusterForbidden,
				[]string{"Give the account these verbs in all namespaces (docs/kubernetes.md, permissions); it is tried again by and by."}
		case !b.isReady() || b.cfg.Now().Sub(a.since) >= unreachableAfter:
			return fmt.Sprintf("its cluster cannot be reached: %v", a.err), fault.ReasonClusterUnreachable, []string{
				"Is the API server up, and does the address in the kubeconfig lead to it from where the runner is?",
				"What runs there goes on; the runner tries again by itself.",
			}
		}
	}
	switch {
	case t.initFailed != "" && b.cfg.Now().Before(t.initUntil):
		return "the image of Berm's init cannot be pulled: " + t.initFailed, core.EndImageFailed, []string{
			"Push it to where the nodes pull from, or name the one that is there with --kube-init-image: berm kube-image makes it.",
			fmt.Sprintf("It is tried again %v after it failed last.", initRest),
		}
	case !b.isReady():
		return notYet, fault.ReasonClusterUnreachable, nil
	}
	return "", "", nil
}

// initImageFailed notes that a pod did not get its init. Where others did, it is that pod's trouble alone.
func (b *Backend) initImageFailed(why string) {
	b.mu.Lock()
	if !b.troubles.initWorked {
		b.troubles.initFailed, b.troubles.initUntil = why, b.cfg.Now().Add(initRest)
	}
	b.mu.Unlock()
	signal(b.lookAgain)
}

func (b *Backend) initImageWorked() {
	b.mu.Lock()
	news := b.troubles.initFailed != ""
	b.troubles.initWorked, b.troubles.initFailed = true, ""
	b.mu.Unlock()
	if news {
		signal(b.lookAgain)
	}
}

// isReady reports whether what is on the cluster is known.
func (b *Backend) isReady() bool {
	select {
	case <-b.ready:
		return true
	default:
		return false
	}
}

// Ready returns a channel that is closed once what is on the cluster is known. Before that, Observe says nothing.
func (b *Backend) Ready() <-chan struct{} { return b.ready }

// awaitReady waits for all that is followed, and is false when the backend is closed before. An account that may not see runtime classes
// has those that it names.
func (b *Backend) awaitReady() bool {
	tick := time.NewTicker(firstPause)
	defer tick.Stop()
	for {
		b.mu.Lock()
		blind := apierrors.IsForbidden(b.troubles.attempts[b.classes.resource].err)
		b.mu.Unlock()
		late := slices.ContainsFunc([]*watched{b.nodes, b.pods, b.classes}, func(w *watched) bool {
			return !w.hasSynced() && !(w == b.classes && blind)
		})
		if !late && b.isHome() {
			return true
		}
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return false
		}
	}
}

// isHome makes sure that this is the cluster whose runner this is.
func (b *Backend) isHome() bool {
	if b.cfg.ClusterUID == "" {
		return true
	}
	uid, err := b.cluster.uid(b.ctx)
	if err != nil {
		select { // It is asked again, and not all the time.
		case <-time.After(retryAfter):
		case <-b.ctx.Done():
		}
		return false
	}
	if uid == b.cfg.ClusterUID {
		return true
	}
	b.mu.Lock()
	b.troubles.stranger = fmt.Sprintf("this is cluster %s, and the runner is of cluster %s", uid, b.cfg.ClusterUID)
	b.mu.Unlock()
	signal(b.lookAgain)
	<-b.ctx.Done() // Another cluster does not become this one.
	return false
}
