//go:build cluster

package kube_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/tracing"
)

// limit is how long anything is waited for that must happen.
const limit = 2 * time.Minute

// envChild marks the process that a failpoint kills, and names what it does.
const envChild = "BERM_KUBE_CHILD"

// job returns a small work whose sandbox is gone at the end of the test.
func job(t testing.TB, id string, command ...string) *backend.Work {
	t.Helper()
	w := &backend.Work{
		SandboxID: id, OrgID: "org-fault", ProfileName: "default",
		Spec: &specpb.ProfileSpec{ResourceDefaults: &specpb.ResourceDefaults{
			CpuRequest: proto.String("50m"), CpuLimit: proto.String("1"), MemoryRequest: proto.String("16Mi"), MemoryLimit: proto.String("64Mi"),
		}},
		Digest: "sha256:fault", Launch: &specpb.Launch{},
	}
	if len(command) > 0 {
		w.Launch.Command, w.Launch.Args = command[0], command[1:]
	}
	prepare(t)(w)
	return w
}

func kubectl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v: %s", args, err, out)
	}
	return string(out)
}

// seen follows a backend and returns a function that waits for an observation.
func seen(t testing.TB, b *kube.Backend) func(id, what string, ok func(*backend.Observation) bool) *backend.Observation {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	return func(id, what string, ok func(*backend.Observation) bool) *backend.Observation {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		for o := range b.Observe(ctx) {
			if o != nil && o.SandboxID == id && ok(o) {
				return o
			}
		}
		t.Fatalf("%s: waited in vain until %s", id, what)
		return nil
	}
}

func runs(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning }
func over(o *backend.Observation) bool { return o.Phase == backend.PhaseEnded }

// world is a backend for a test, closed and emptied at its end.
func world(t *testing.T, change func(*kube.Config)) (*kube.Backend, kube.Config) {
	t.Helper()
	cfg := config(t, t.TempDir())
	cfg.RunnerName = strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	if change != nil {
		change(&cfg)
	}
	b := open(t, cfg)
	t.Cleanup(func() { _ = b.Close() })
	return b, cfg
}

func clear(t *testing.T, b *kube.Backend, id string) {
	t.Helper()
	wait := seen(t, b)
	if err := b.Stop(t.Context(), id, 0, core.EndDeleted); err != nil {
		t.Fatal(err)
	}
	wait(id, "it ends", over)
	if err := b.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestFaultPodDeletedByHand(t *testing.T) {
	b, _ := world(t, nil)
	w := job(t, "by-hand", "sleep", "infinity")
	t.Cleanup(tracing.Use(sdktrace.NewTracerProvider()))
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if err := b.Create(tracing.From(t.Context(), traceparent), w); err != nil {
		t.Fatal(err)
	}
	wait := seen(t, b)
	wait(w.SandboxID, "it runs", runs)
	got := kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-by-hand", "-o", `jsonpath={.metadata.annotations.berm\.dev/traceparent}`)
	if got != traceparent {
		t.Errorf("the pod belongs to %q", got)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "delete", "pod", "sandbox-by-hand", "--wait=false")
	o := wait(w.SandboxID, "it ends", over)
	if !o.Failed || o.Reason != core.EndKilled || o.ExitCode != nil && *o.ExitCode != 128+15 {
		t.Errorf("%+v", o)
	}
	if _, err := b.Exec(t.Context(), w.SandboxID, backend.Exec{Argv: []string{"true"}}); !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		t.Errorf("exec: %v", err)
	}
	if err := b.Delete(t.Context(), w.SandboxID); err != nil {
		t.Error(err)
	}
}

func TestFaultOutOfMemory(t *testing.T) {
	b, _ := world(t, nil)
	w := job(t, "oom", "dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if o := seen(t, b)(w.SandboxID, "it ends", over); !o.Failed || o.Reason != core.EndOutOfMemory {
		t.Errorf("%+v", o)
	}
	if err := b.Delete(t.Context(), w.SandboxID); err != nil {
		t.Error(err)
	}
}

func TestFaultRefusedByTheCluster(t *testing.T) {
	b, _ := world(t, nil)
	t.Run("quota", func(t *testing.T) {
		kubectl(t, "", "create", "namespace", "org-ns-org-quota")
		defer kubectl(t, "", "delete", "namespace", "org-ns-org-quota", "--wait=false")
		kubectl(t, "", "-n", "org-ns-org-quota", "create", "quota", "none", "--hard=pods=0")
		w := job(t, "quota", "true")
		w.OrgID = "org-quota"
		w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/a", Content: []byte("a")}}
		var err error
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // The quota counts once a controller has seen it.
			if err = b.Create(t.Context(), w); fault.HasReason(err, fault.ReasonLimitExceeded) {
				break
			}
		}
		if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), "quota") {
			t.Errorf("%v", err)
		}
		if left := kubectl(t, "", "-n", "org-ns-org-quota", "get", "secrets", "-o", "name"); strings.Contains(left, "sandbox-quota") {
			t.Errorf("left behind: %s", left)
		}
	})
	t.Run("namespace of somebody else", func(t *testing.T) {
		kubectl(t, "", "create", "namespace", "org-ns-org-theirs")
		kubectl(t, "", "label", "namespace", "org-ns-org-theirs", "app.kubernetes.io/managed-by=them")
		defer kubectl(t, "", "delete", "namespace", "org-ns-org-theirs", "--wait=false")
		w := job(t, "theirs", "true")
		w.OrgID = "org-theirs"
		if err := b.Create(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if labels := kubectl(t, "", "get", "namespace", "org-ns-org-theirs", "-o", "jsonpath={.metadata.labels}"); !strings.Contains(labels, `"app.kubernetes.io/managed-by":"them"`) || strings.Contains(labels, "berm") {
			t.Errorf("its labels are %s", labels)
		}
		seen(t, b)("theirs", "it ends", over)
		if err := b.Delete(t.Context(), "theirs"); err != nil {
			t.Error(err)
		}
	})
	t.Run("namespace that is stuck terminating", func(t *testing.T) {
		kubectl(t, "", "create", "namespace", "org-ns-org-stuck")
		kubectl(t, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stuck", "namespace": "org-ns-org-stuck", "finalizers": ["example.test/stuck"]}}`, "create", "-f", "-")
		kubectl(t, "", "delete", "namespace", "org-ns-org-stuck", "--wait=false")
		defer kubectl(t, "", "-n", "org-ns-org-stuck", "patch", "configmap", "stuck", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		w := job(t, "stuck", "true")
		w.OrgID = "org-stuck"
		if err := b.Create(t.Context(), w); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "terminated") {
			t.Errorf("%v", err)
		}
	})
	t.Run("admission", func(t *testing.T) {
		policy := `{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no-refused"}, "spec": {
			"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
			"validations": [{"expression": "object.metadata.name != 'sandbox-refused'", "message": "this cluster takes no such pod"}]}}`
		binding := `{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no-refused"},
			"spec": {"policyName": "no-refused", "validationActions": ["Deny"]}}`
		kubectl(t, policy, "create", "-f", "-")
		kubectl(t, binding, "create", "-f", "-")
		defer kubectl(t, "", "delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "no-refused")
		var err error
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Millisecond) { // Policies take effect a moment later.
			if err = b.Create(t.Context(), job(t, "refused", "true")); err != nil {
				break
			}
			clear(t, b, "refused")
		}
		if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "this cluster takes no such pod") {
			t.Errorf("%v", err)
		}
	})
	t.Run("privileged fragment", func(t *testing.T) {
		w := job(t, "privileged", "true")
		w.Spec.Pod.Spec = podFragment(t, `{"hostNetwork": true, "serviceAccountName": "builder", "containers": [{"name": "main", "securityContext": {"privileged": true}}], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}`)
		err := b.Check(w)
		if !fault.HasReason(err, fault.ReasonGuardrailViolated) || len(fault.From(err).Fields) != 4 {
			t.Errorf("%v", err)
		}
		if err := b.Create(t.Context(), w); !fault.HasReason(err, fault.ReasonGuardrailViolated) {
			t.Errorf("create: %v", err)
		}
	})
}

func TestFaultCannotStart(t *testing.T) {
	t.Run("init image missing", func(t *testing.T) {
		b, _ := world(t, func(c *kube.Config) { c.Options.InitImage = missingImage })
		if err := b.Create(t.Context(), job(t, "no-init", "true")); err != nil {
			t.Fatal(err)
		}
		o := seen(t, b)("no-init", "it ends", over)
		if !o.Failed || o.Reason != core.EndImageFailed || !strings.Contains(o.Message, "Berm's init") || o.ExitCode != nil {
			t.Errorf("%+v", o)
		}
		if err := b.Delete(t.Context(), "no-init"); err != nil {
			t.Error(err)
		}
	})
	t.Run("init image missing that is mounted", func(t *testing.T) {
		b, _ := world(t, func(c *kube.Config) { c.Options.InitImage, c.Options.InitFrom = missingImage, kube.InitFromImage })
		if err := b.Create(t.Context(), job(t, "no-init", "true")); err != nil {
			t.Fatal(err)
		}
		o := seen(t, b)("no-init", "it ends", over)
		if !o.Failed || o.Reason != core.EndImageFailed || !strings.Contains(o.Message, "Berm's init: ") || !strings.Contains(o.Message, missingImage) || o.ExitCode != nil {
			t.Errorf("%+v", o)
		}
		eventually(t, "the runner is said to be unable", func() bool {
			return strings.Contains(b.Info().Refusal, "the image of Berm's init cannot be pulled")
		})
		if err := b.Delete(t.Context(), "no-init"); err != nil {
			t.Error(err)
		}
	})
	t.Run("runtime class without a handler, and no node", func(t *testing.T) {
		kubectl(t, `{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "ghost"}, "handler": "ghost"}`, "create", "-f", "-")
		defer kubectl(t, "", "delete", "runtimeclass", "ghost")
		b, _ := world(t, func(c *kube.Config) { c.StuckTimeout, c.ScheduleTimeout = 3*time.Second, 3*time.Second })
		ghost, nowhere := job(t, "ghost", "true"), job(t, "nowhere", "true")
		ghost.Spec.RuntimeClass = proto.String("ghost")
		nowhere.Spec.NodeSelector = map[string]string{"no": "such"}
		for _, w := range []*backend.Work{ghost, nowhere} {
			if err := b.Create(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[string]string{"ghost": "runtime class", "nowhere": "no node takes the pod"} {
			o := seen(t, b)(id, "it ends", over)
			if !o.Failed || o.Reason != core.EndStartFailed || !strings.Contains(o.Message, want) {
				t.Errorf("%s: %+v", id, o)
			}
			eventSays(t, "SandboxStartFailed", want)
			if err := b.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	})
}

// eventSays waits for an event with this reason and text.
func eventSays(t *testing.T, reason, text string) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		events := kubectl(t, "", "get", "events", "-A", "--field-selector", "reason="+reason, "-o", "jsonpath={.items[*].message}")
		if strings.Contains(events, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no event %s says %q: %s", reason, text, events)
		}
	}
}

// TestFaultInside tries what a sandbox can do to what is said of it.
func TestFaultInside(t *testing.T) {
	b, cfg := world(t, nil)
	if err := b.Create(t.Context(), job(t, "inside")); err != nil {
		t.Fatal(err)
	}
	wait := seen(t, b)
	wait("inside", "it runs", runs)
	for _, attack := range []string{
		"echo 'ended {\"exit\":{\"code\":0}}' > /proc/1/fd/1", "echo x > /proc/1/fd/2", "cat /proc/1/environ", "cat /proc/1/mem",
		"echo x > /.berm/berm-shim", "rm -f /.berm/berm-shim", "kill -9 1; cat /no-such-file",
	} {
		p, err := b.Exec(t.Context(), "inside", backend.Exec{Argv: []string{"sh", "-c", attack}})
		if err != nil {
			t.Fatal(err)
		}
		for {
			f, err := p.Recv()
			if err != nil {
				t.Fatalf("%q: %v", attack, err)
			}
			if f.Kind == backend.FrameExit {
				if f.ExitCode == 0 {
					t.Errorf("%q worked", attack)
				}
				break
			}
		}
		_ = p.Close()
	}
	// Another with the kubeconfig, and not the runner's key, reaches nothing, and can end it.
	other := cfg
	other.Dir = t.TempDir()
	thief := open(t, other)
	defer thief.Close()
	seen(t, thief)("inside", "it is seen", runs)
	if _, err := thief.Exec(t.Context(), "inside", backend.Exec{Argv: []string{"true"}}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without the key: %v", err)
	}
	if err := thief.Stop(t.Context(), "inside", 0, core.EndStopped); err != nil {
		t.Errorf("stop without the key: %v", err)
	}
	wait("inside", "it ends", over)
	if err := b.Delete(t.Context(), "inside"); err != nil {
		t.Error(err)
	}
}

// TestFaultRunnerAway lets a sandbox print more than its init holds while no runner is there.
func TestFaultRunnerAway(t *testing.T) {
	b, cfg := world(t, nil)
	w := job(t, "away", "sh", "-c", "sleep 3; head -c 3000000 /dev/zero; echo end >&2; exit 6")
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	seen(t, b)("away", "it runs", runs)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // It prints, and then waits.
	b = open(t, cfg)
	defer b.Close()
	o := seen(t, b)("away", "it ends", over)
	if o.Failed || o.ExitCode == nil || *o.ExitCode != 6 {
		t.Errorf("%+v", o)
	}
	r, err := b.Logs(t.Context(), "away", backend.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	var total, zeros int64
	for {
		f, err := r.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || f.Kind == backend.LogGap || f.Offset != total {
			t.Fatalf("%v at %d: %v", f.Kind, f.Offset, err)
		}
		zeros += int64(bytes.Count(f.Data, []byte{0}))
		total = f.End()
	}
	if zeros != 3_000_000 || total != zeros+4 {
		t.Errorf("%d bytes, %d of them zero", total, zeros)
	}
	if err := b.Delete(t.Context(), "away"); err != nil {
		t.Error(err)
	}
}

// TestFaultKilled kills a runner at every failpoint, and starts it again.
func TestFaultKilled(t *testing.T) {
	if dir := os.Getenv(envChild); dir != "" {
		child(t, dir)
		return
	}
	for _, point := range kube.Failpoints() {
		t.Run(point, func(t *testing.T) {
			cfg := config(t, t.TempDir())
			id := "killed-" + strings.ReplaceAll(strings.TrimPrefix(point, "kube."), ".", "-")
			cfg.RunnerName = id
			log := filepath.Join(t.TempDir(), "hit")
			cmd := exec.Command(os.Args[0], "-test.run", "^TestFaultKilled$", "-test.v")
			cmd.Env = append(os.Environ(), envChild+"="+cfg.Dir, "BERM_KUBE_ID="+id, "BERM_FAILPOINT="+point, "BERM_FAILPOINT_LOG="+log)
			out, err := cmd.CombinedOutput()
			if hit, _ := os.ReadFile(log); err == nil || !strings.Contains(string(hit), point) {
				t.Fatalf("it was not killed there: %v\n%s", err, out)
			}
			b := open(t, cfg)
			defer b.Close()
			if err := b.Create(t.Context(), killedJob(t, id)); err != nil {
				t.Fatalf("create again: %v", err)
			}
			if n := strings.Count(kubectl(t, "", "-n", "org-ns-org-fault", "get", "pods", "-l", kube.LabelSandbox+"="+id, "-o", "name"), "pod/"); n != 1 {
				t.Errorf("%d pods", n)
			}
			wait := seen(t, b)
			wait(id, "it runs or has", func(o *backend.Observation) bool { return runs(o) || over(o) })
			if err := b.Stop(t.Context(), id, time.Second, core.EndStopped); err != nil {
				t.Fatal(err)
			}
			if o := wait(id, "it ends", over); o.Failed || o.Reason != core.EndStopped && o.Reason != core.EndDeleted {
				t.Errorf("%+v", o)
			}
			if err := b.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if left := kubectl(t, "", "-n", "org-ns-org-fault", "get", "pods,secrets", "-l", kube.LabelSandbox+"="+id, "-o", "name"); strings.TrimSpace(left) != "" {
				// What is being deleted is seen for a moment.
				time.Sleep(2 * time.Second)
				if left = kubectl(t, "", "-n", "org-ns-org-fault", "get", "pods,secrets", "-l", kube.LabelSandbox+"="+id, "-o", "name"); strings.TrimSpace(left) != "" {
					t.Errorf("left behind: %s", left)
				}
			}
		})
	}
}

func killedJob(t testing.TB, id string) *backend.Work {
	w := job(t, id, "sleep", "infinity")
	w.Launch.SecretStores = []*specpb.SecretStoreUse{{StoreName: "team", Secrets: []*specpb.SecretUse{{Path: "p", EnvVar: "TOKEN"}}}}
	w.Secrets = []core.Secret{{EnvVar: "TOKEN", Value: "hunter2"}} // Its Secret is no volume of the pod.
	return w
}

// child passes every failpoint, unless one kills it.
func child(t *testing.T, dir string) {
	cfg := config(t, dir)
	id := os.Getenv("BERM_KUBE_ID")
	cfg.RunnerName = id
	b := open(t, cfg)
	if err := b.Create(t.Context(), killedJob(t, id)); err != nil {
		t.Fatal(err)
	}
	wait := seen(t, b)
	wait(id, "it runs", runs)
	clear(t, b, id)
}

// TestFaultServerGone stops the API server for a minute. It is the last test: the cluster needs a while to recover.
func TestFaultServerGone(t *testing.T) {
	server := part(t, "kube-apiserver")
	b, _ := world(t, nil)
	if err := b.Create(t.Context(), job(t, "gone", "sh", "-c", "echo before; sleep 20; echo after; exit 7")); err != nil {
		t.Fatal(err)
	}
	wait := seen(t, b)
	wait("gone", "it runs", runs)
	signal(t, server, syscall.SIGSTOP)
	defer signal(t, server, syscall.SIGCONT)
	away, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Create(away, job(t, "during", "true")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("create while it is away: %v", err)
	}
	<-away.Done()
	signal(t, server, syscall.SIGCONT)
	o := wait("gone", "it ends", over)
	if o.Failed || o.ExitCode == nil || *o.ExitCode != 7 {
		t.Errorf("%+v", o)
	}
	r, err := b.Logs(t.Context(), "gone", backend.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for {
		f, err := r.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
			break
		}
		all += string(f.Data)
	}
	if all != "before\nafter\n" {
		t.Errorf("output %q", all)
	}
	// What was asked for meanwhile is asked for again, and is there once.
	if err := b.Create(t.Context(), job(t, "during", "true")); err != nil {
		t.Fatal(err)
	}
	wait("during", "it ends", over)
	for _, id := range []string{"gone", "during"} {
		if err := b.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}
