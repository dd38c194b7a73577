//go:build cluster

package kube_test

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core"
)

// burst is how many pods are made at once; the node of the tests takes 200.
const burst = 100

// rawPod makes a pod as anybody would, with the request that sandboxes here have.
func rawPod(b *testing.B, names ...string) {
	b.Helper()
	var list strings.Builder
	for _, name := range names {
		fmt.Fprintf(&list, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "labels": {"raw": "yes"}}, "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
			"automountServiceAccountToken": false, "enableServiceLinks": false, "containers": [{"name": "main", "image": %q, "imagePullPolicy": "IfNotPresent",
			"command": ["sleep", "infinity"], "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}}]}}`+"\n", name, toolImage)
	}
	kubectl(b, list.String(), "create", "-f", "-")
	kubectl(b, "", append([]string{"wait", "--for=jsonpath={.status.phase}=Running", "--timeout=300s", "pod"}, names...)...)
}

// gone deletes raw pods, and waits until they are no more.
func gone(b *testing.B) { kubectl(b, "", "delete", "pod", "-l", "raw=yes", "--wait=true", "--now") }

func bench(b *testing.B) *kube.Backend {
	cfg := config(b, b.TempDir())
	cfg.RunnerName = strings.ToLower(b.Name())
	k := open(b, cfg)
	b.Cleanup(func() { _ = k.Close() })
	return k
}

// small is a sandbox of which many fit on the node.
func small(b *testing.B, id string) *backend.Work {
	w := job(b, id, "sleep", "infinity")
	*w.Spec.ResourceDefaults.CpuRequest = "1m"
	return w
}

// start makes sandboxes and returns when all run.
func start(b *testing.B, k *kube.Backend, ids ...string) {
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			if err := k.Create(b.Context(), small(b, id)); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	for o := range k.Observe(b.Context()) {
		if o != nil && runs(o) {
			if delete(missing, o.SandboxID); len(missing) == 0 {
				return
			}
		}
	}
}

func end(b *testing.B, k *kube.Backend, ids ...string) {
	for _, id := range ids {
		if err := k.Stop(b.Context(), id, 0, core.EndDeleted); err != nil {
			b.Fatal(err)
		}
	}
	wait := seen(b, k)
	for _, id := range ids {
		wait(id, "it ends", over)
		if err := k.Delete(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// took reports the median of durations in milliseconds.
func took(b *testing.B, list []time.Duration, name string) time.Duration {
	slices.Sort(list)
	median := list[len(list)/2]
	b.ReportMetric(float64(median.Microseconds())/1000, name)
	return median
}

var writeCount = regexp.MustCompile(`(?m)^apiserver_request_total\{[^}]*resource="(pods|secrets|networkpolicies|services|namespaces)"[^}]*verb="(?:APPLY|POST|PUT|PATCH|DELETE)"[^}]*\} (\S+)$`)

// writes is how many writes of what sandboxes are made of the API server has taken, from whomever, without statuses and bindings.
func writes(b *testing.B) (n float64) {
	for _, m := range writeCount.FindAllStringSubmatch(kubectl(b, "", "get", "--raw", "/metrics"), -1) {
		if strings.Contains(m[0], `subresource=""`) {
			v, _ := strconv.ParseFloat(m[2], 64)
			n += v
		}
	}
	return n
}

// BenchmarkPodStart measures, in turn, the time until a sandbox is told to run, and until kubectl has created a pod with the same request and
// waited for it.
func BenchmarkPodStart(b *testing.B) {
	k := bench(b)
	start(b, k, "first")
	end(b, k, "first")
	var ours, raw []time.Duration
	var made float64
	for n := 0; b.Loop(); n++ {
		id, before, at := fmt.Sprint("start-", n), writes(b), time.Now()
		start(b, k, id)
		ours = append(ours, time.Since(at))
		made += writes(b) - before
		at = time.Now()
		rawPod(b, id)
		raw = append(raw, time.Since(at))
		end(b, k, id)
		gone(b)
	}
	b.ReportMetric(made/float64(b.N), "writes/sandbox")
	took(b, raw, "kubectl-ms")
	took(b, ours, "p50-ms")
}

// BenchmarkPodBurst measures, in turn, the time until 100 sandboxes that are asked for at once run, and 100 pods with the same request.
func BenchmarkPodBurst(b *testing.B) {
	k := bench(b)
	var ours, raw []time.Duration
	for n := 0; b.Loop(); n++ {
		ids := make([]string, burst)
		for i := range ids {
			ids[i] = fmt.Sprint("burst-", n, "-", i)
		}
		at := time.Now()
		start(b, k, ids...)
		ours = append(ours, time.Since(at))
		end(b, k, ids...)
		at = time.Now()
		rawPod(b, ids...)
		raw = append(raw, time.Since(at))
		gone(b)
	}
	b.ReportMetric(float64(took(b, ours, "p50-ms"))/float64(took(b, raw, "kubectl-ms")), "ratio")
}

// BenchmarkPodExec measures, in turn, a command in a sandbox that runs, and the same command by kubectl exec in the same pod.
func BenchmarkPodExec(b *testing.B) {
	k := bench(b)
	start(b, k, "exec")
	defer end(b, k, "exec")
	var ours, raw []time.Duration
	for b.Loop() {
		at := time.Now()
		p, err := k.Exec(b.Context(), "exec", backend.Exec{Argv: []string{"true"}})
		for err == nil {
			_, err = p.Recv()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(at))
		at = time.Now()
		if out, err := exec.Command("kubectl", "-n", "org-ns-org-fault", "exec", "sandbox-exec", "-c", "main", "--", "true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		raw = append(raw, time.Since(at))
	}
	b.ReportMetric(float64(took(b, ours, "p50-ms"))/float64(took(b, raw, "kubectl-ms")), "ratio")
}
