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
func rawPod(b *testing.B, names ...string) { raw(b, "", "", names...) }

// volumePod is one with a volume, which its node makes and waits for in steps of 300 ms before it starts a container.
func volumePod(b *testing.B, names ...string) {
	raw(b, `, "volumes": [{"name": "v", "emptyDir": {}}]`, `, "volumeMounts": [{"name": "v", "mountPath": "/v"}]`, names...)
}

func raw(b *testing.B, pod, container string, names ...string) {
	b.Helper()
	var list strings.Builder
	for _, name := range names {
		fmt.Fprintf(&list, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "labels": {"raw": "yes"}}, "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
			"automountServiceAccountToken": false, "enableServiceLinks": false, "containers": [{"name": "main", "image": %q, "imagePullPolicy": "IfNotPresent",
			"command": ["sleep", "infinity"], "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}%s}]%s}}`+"\n", name, toolImage, container, pod)
	}
	kubectl(b, list.String(), "create", "-f", "-")
	kubectl(b, "", append([]string{"wait", "--for=jsonpath={.status.phase}=Running", "--timeout=300s", "pod"}, names...)...)
}

// gone deletes raw pods, and waits until they are no more.
func gone(b *testing.B) { kubectl(b, "", "delete", "pod", "-l", "raw=yes", "--wait=true", "--now") }

func bench(b *testing.B, from kube.InitFrom) *kube.Backend {
	cfg := config(b, b.TempDir())
	cfg.RunnerName, cfg.Options.InitFrom = strings.ReplaceAll(strings.ToLower(b.Name()), "/", "-")+string(from), from
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

// BenchmarkPodStart measures, in turn, the time until a sandbox is told to run, for both ways of its init, and until kubectl has created a
// pod with the same request and waited for it, without any volume and with one.
func BenchmarkPodStart(b *testing.B) {
	copied, mounted := bench(b, kube.InitFromContainer), bench(b, kube.InitFromImage)
	var all [4][]time.Duration
	var made float64
	one := func(k *kube.Backend, id string) time.Duration {
		before, at := writes(b), time.Now()
		start(b, k, id)
		d := time.Since(at)
		made += writes(b) - before
		end(b, k, id)
		return d
	}
	pod := func(make func(*testing.B, ...string), id string) time.Duration {
		at := time.Now()
		make(b, id)
		d := time.Since(at)
		gone(b)
		return d
	}
	one(copied, "first")
	one(mounted, "first-mounted")
	made = 0
	for n := 0; b.Loop(); n++ {
		all[0] = append(all[0], one(copied, fmt.Sprint("copied-", n)))
		all[1] = append(all[1], one(mounted, fmt.Sprint("mounted-", n)))
		all[2] = append(all[2], pod(rawPod, fmt.Sprint("raw-", n)))
		all[3] = append(all[3], pod(volumePod, fmt.Sprint("volume-", n)))
	}
	b.ReportMetric(made/float64(2*b.N), "writes/sandbox")
	for i, name := range []string{"copied-ms", "mounted-ms", "kubectl-ms", "kubectl-volume-ms"} {
		took(b, all[i], name)
	}
}

// BenchmarkPodBurst measures, in turn, the time until 100 sandboxes that are asked for at once run, for both ways of their init, and 100 pods
// with the same request.
func BenchmarkPodBurst(b *testing.B) {
	backends := []*kube.Backend{bench(b, kube.InitFromContainer), bench(b, kube.InitFromImage)}
	var all [3][]time.Duration
	for n := 0; b.Loop(); n++ {
		ids := make([]string, burst)
		for i := range ids {
			ids[i] = fmt.Sprint("burst-", n, "-", i)
		}
		for i, k := range backends {
			at := time.Now()
			start(b, k, ids...)
			all[i] = append(all[i], time.Since(at))
			end(b, k, ids...)
		}
		at := time.Now()
		rawPod(b, ids...)
		all[2] = append(all[2], time.Since(at))
		gone(b)
	}
	pods := float64(took(b, all[2], "kubectl-ms"))
	b.ReportMetric(float64(took(b, all[0], "copied-ms"))/pods, "copied-ratio")
	b.ReportMetric(float64(took(b, all[1], "mounted-ms"))/pods, "mounted-ratio")
}

// BenchmarkPodExec measures, in turn, a command in a sandbox that runs, and the same command by kubectl exec in the same pod.
func BenchmarkPodExec(b *testing.B) {
	k := bench(b, kube.InitFromContainer)
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
