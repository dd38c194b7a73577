package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/initd"
)

const (
	// trialTimeout bounds a trial as a whole.
	trialTimeout = 3 * time.Minute
	// trialSeconds is how long a pod of it tries: policies come into force some time after it runs.
	trialSeconds = 6
	// trialClosing bounds the deletion of its pods: who closes a runner waits for it.
	trialClosing = 20 * time.Second
	trialOrg     = "berm-trial"
	trialPort    = "8053"
)

// trialClient is a pod that tries to reach the two that answer: a is the first bit of its exit code, b the second.
type trialClient struct {
	typ  egress.Type
	mode func(a string) *specpb.EgressMode
	want int32
}

func trialClients() []trialClient {
	return []trialClient{
		{egress.None, func(string) *specpb.EgressMode { return &specpb.EgressMode{Type: string(egress.None)} }, initd.TrialCode},
		{egress.Internet, func(string) *specpb.EgressMode { return &specpb.EgressMode{Type: string(egress.Internet)} }, initd.TrialCode},
		{egress.Allowlist, func(a string) *specpb.EgressMode {
			return &specpb.EgressMode{Type: string(egress.Allowlist), Cidrs: []string{a}}
		}, initd.TrialCode + 1},
	}
}

// trial is a try of what the cluster really enforces. Its pods are sandboxes like any other, made by two backends of their own: one as
// without any mode, one as this runner is set. Whatever they leave is deleted.
type trial struct {
	free, held *Backend
	stamp      string
}

// tryNetwork tries what holds, and tells it with Info.
func (b *Backend) tryNetwork() {
	ctx, cancel := context.WithTimeout(b.ctx, trialTimeout)
	defer cancel()
	found, err := b.runTrial(ctx)
	if b.ctx.Err() != nil {
		return
	}
	if err != nil {
		b.log.Warn("what the cluster enforces of egress modes could not be tried", "error", err)
	}
	b.mu.Lock()
	b.tried = &verdict{found: found, err: err}
	b.mu.Unlock()
	signal(b.lookAgain)
}

// verdict is what a trial found: for each type whether it held.
type verdict struct {
	found map[egress.Type]bool
	err   error
}

func (b *Backend) runTrial(ctx context.Context) (found map[egress.Type]bool, err error) {
	dir := filepath.Join(b.cfg.Dir, "trial")
	defer func() { _ = os.RemoveAll(dir) }()
	open := func(name string, n Network) (*Backend, error) {
		cfg := b.cfg
		cfg.Dir, cfg.RunnerName, cfg.Options.Network, cfg.untried = filepath.Join(dir, name), b.cfg.RunnerName+"-trial-"+name, n, true
		return New(ctx, cfg)
	}
	t := &trial{stamp: strconv.FormatInt(b.cfg.Now().UnixNano(), 36)}
	if t.free, err = open("free", NetworkRecorded); err != nil {
		return nil, err
	}
	defer t.close(t.free)
	if t.held, err = open("held", b.cfg.Options.Network); err != nil {
		return nil, err
	}
	defer t.close(t.held)
	return t.run(ctx)
}

// close deletes everything of a backend, also what an earlier trial left that was interrupted.
func (t *trial) close(b *Backend) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), trialClosing)
	defer cancel()
	b.mu.Lock()
	var ids []string
	for id := range b.sandboxes {
		ids = append(ids, id)
	}
	b.mu.Unlock()
	for _, id := range ids {
		err := b.Stop(ctx, id, 0, core.EndDeleted)
		if err == nil {
			_, err = t.await(ctx, b, id, backend.PhaseEnded)
		}
		if err == nil {
			err = b.Delete(ctx, id)
		}
		if err != nil {
			b.log.Warn("a pod of a trial is left over", "sandbox", id, "error", err)
		}
	}
	_ = b.Close()
}

func (t *trial) run(ctx context.Context) (map[egress.Type]bool, error) {
	var addrs []string
	for _, name := range []string{"a", "b"} {
		if err := t.create(ctx, t.free, name, nil, "answer", trialPort); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, err := t.await(ctx, t.free, t.id(name), backend.PhaseRunning); err != nil {
			return nil, err
		}
		s, err := t.free.get(t.id(name))
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, s.podNow().Status.PodIP)
	}
	args := []string{"reach", strconv.Itoa(trialSeconds)}
	for _, a := range addrs {
		args = append(args, net.JoinHostPort(a, trialPort))
	}
	if err := t.create(ctx, t.free, "control", nil, args...); err != nil {
		return nil, err
	}
	clients := trialClients()
	for _, c := range clients {
		if err := t.create(ctx, t.held, string(c.typ), c.mode(hostRange(addrs[0])), args...); err != nil {
			return nil, err
		}
	}
	if code, err := t.code(ctx, t.free, "control"); err != nil || code != initd.TrialCode+3 {
		return nil, errors.Join(err, fmt.Errorf("without rules pods do not reach each other either (code %d): nothing can be told", code))
	}
	found := map[egress.Type]bool{}
	for _, c := range clients {
		code, err := t.code(ctx, t.held, string(c.typ))
		if err != nil {
			return nil, err
		}
		found[c.typ] = code == c.want
	}
	return found, nil
}

func hostRange(addr string) string {
	if ip := net.ParseIP(addr); ip.To4() == nil {
		return addr + "/128"
	}
	return addr + "/32"
}

func (t *trial) id(name string) string { return "trial-" + name + "-" + t.stamp }

// create makes a pod of the trial, of the image of Berm's init alone.
func (t *trial) create(ctx context.Context, b *Backend, name string, mode *specpb.EgressMode, args ...string) error {
	w := &backend.Work{
		SandboxID: t.id(name), OrgID: trialOrg, RunnerID: b.cfg.RunnerName, ProfileName: "trial", Launch: &specpb.Launch{Command: imageProgram, Args: args},
		Spec: &specpb.ProfileSpec{ContainerImage: proto.String(b.cfg.Options.InitImage), ResourceDefaults: &specpb.ResourceDefaults{
			CpuRequest: proto.String("10m"), CpuLimit: proto.String("500m"), MemoryRequest: proto.String("16Mi"), MemoryLimit: proto.String("64Mi"),
		}},
		LifetimeSeconds: int32(trialTimeout / time.Second),
	}
	if mode != nil {
		w.Spec.Network = &specpb.Network{Egress: &specpb.Egress{Default: proto.String("trial"), Modes: map[string]*specpb.EgressMode{"trial": mode}}}
	}
	return b.Create(ctx, w)
}

// code waits for the end of a pod and returns its exit code.
func (t *trial) code(ctx context.Context, b *Backend, name string) (int32, error) {
	o, err := t.await(ctx, b, t.id(name), backend.PhaseEnded)
	if err != nil {
		return 0, err
	}
	if o.ExitCode == nil {
		return 0, fmt.Errorf("pod %s of the trial ended without an exit code: %s: %s", name, o.Reason, o.Message)
	}
	return *o.ExitCode, nil
}

// await waits until a sandbox is in a phase.
func (t *trial) await(ctx context.Context, b *Backend, id string, phase backend.Phase) (*backend.Observation, error) {
	var last string
	for o := range b.Observe(ctx) {
		switch {
		case o == nil || o.SandboxID != id:
		case o.Phase == phase:
			return o, nil
		case o.Phase == backend.PhaseEnded:
			return nil, fmt.Errorf("pod %s of the trial ended: %s: %s", id, o.Reason, o.Message)
		default:
			last = o.Message
		}
	}
	return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "pod %s of the trial is not %s after %v: %s", id, phase, trialTimeout, last)
}
