package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/network"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// probeID names what probes make: no sandbox has an id that begins with a dot.
const probeID = ".probe-"

// probe runs a sandbox under every runtime that is installed, all at once, and returns those that worked. It is the whole
// way that a sandbox takes, with limits, so that a machine which cannot do one of it says so now and not at a launch.
func (b *Backend) probe(ctx context.Context, configured []ociRuntime) map[string]ociRuntime {
	type result struct {
		ociRuntime
		err error
	}
	results := make([]result, len(configured))
	var all sync.WaitGroup
	for i, rt := range configured {
		all.Go(func() {
			rt, err := b.probeOne(ctx, rt)
			results[i] = result{rt, err}
		})
	}
	all.Wait()
	found := map[string]ociRuntime{}
	for _, r := range results {
		if r.err != nil {
			b.machine.lack("runtime:"+r.name, "%s", message(r.err))
			continue
		}
		found[r.name] = r.ociRuntime
	}
	return found
}

func (b *Backend) probeOne(ctx context.Context, rt ociRuntime) (ociRuntime, error) {
	path, err := exec.LookPath(rt.path)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return rt, fmt.Errorf("not installed: no %s in the server's PATH", rt.path)
	}
	if err != nil {
		return rt, err
	}
	if rt.path, err = filepath.Abs(path); err != nil {
		return rt, err
	}
	rt = b.sealed(rt)
	if rt.kind.OwnStack() && b.net.Refusal() == "" {
		rt.seen, err = b.tryNetwork(ctx, rt)
	} else {
		rt.seen, err = b.try(ctx, rt, nil)
	}
	if err != nil {
		if rt.program != nil {
			err = errors.Join(err, rt.program.Close())
		}
		return rt, err
	}
	rt.seen.version = versionOf(ctx, rt.path)
	return rt, nil
}

// tryNetwork tries a runtime whose sandboxes take a network over from the namespace that they are given. One that cannot is still good
// for sandboxes without.
func (b *Backend) tryNetwork(ctx context.Context, rt ociRuntime) (probed, error) {
	var seen probed
	trial, err := b.net.Trial()
	if err == nil {
		defer func() { _ = trial.Close() }()
		seen, err = b.try(ctx, rt, trial)
	}
	if err == nil {
		return seen, nil
	}
	why := err
	if seen, err = b.try(ctx, rt, nil); err != nil {
		return seen, err
	}
	seen.noNetwork = "it did not take over the network of its probe: " + message(why)
	return seen, nil
}

// try starts a sandbox that idles, with a network if one is given, and ends it. What it leaves, also when it fails, is removed.
func (b *Backend) try(ctx context.Context, rt ociRuntime, trial *network.Trial) (seen probed, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	id := probeID + rt.name
	state := filepath.Join(b.place.run, id)
	defer func() {
		cleanErr := endProbe(context.WithoutCancel(ctx), state)
		err = errors.Join(err, cleanErr, os.RemoveAll(state), b.clearBox(id))
	}()
	ids, err := b.ids.take()
	if err != nil {
		return seen, err
	}
	defer b.ids.release(ids)
	if err := os.MkdirAll(b.place.runtime(rt.name), 0o700); err != nil {
		return seen, err
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return seen, fmt.Errorf("an earlier probe is in the way: %w", err)
	}
	skeleton, err := b.host.Current()
	if err != nil {
		return seen, err
	}
	box := b.place.box(id)
	if err := os.Mkdir(box, 0o700); err != nil {
		return seen, err
	}
	if err := os.Chown(box, int(base(ids)), int(base(ids))); err != nil {
		return seen, err
	}
	in := bundle.Input{
		ID: "probe", Root: skeleton.Path, ReadOnly: true, Env: []string{"PATH=" + defaultPath}, IDBase: base(ids), CgroupsPath: b.place.cgroup(id), Limits: b.machine.probeLimits(),
		Tmpfs: []bundle.Tmpfs{bundle.Shm()},
	}
	for _, m := range skeleton.Mounts {
		in.Binds = append(in.Binds, bundle.Bind{Source: m.Path, Target: m.Path, Dir: true, Exec: true})
	}
	if err := b.withRuntime(&in, rt, id); err != nil {
		return seen, err
	}
	if x := (&boxed{bundle: in}); in.OwnKernel {
		if err := x.plainRoot(box); err != nil {
			return seen, err
		}
		in = x.bundle
	}
	if trial != nil {
		in.Network = trial.Path()
	}
	cfg := b.shimConfig(id, rt, &in)
	if _, err := b.writeBundle(id, &in); err != nil {
		return seen, err
	}
	// gVisor has a socket by the id of a container that the whole machine sees: another server may be probing just now.
	cfg.Dir, cfg.ID, cfg.StartTimeout = state, id[1:]+"-"+b.place.name, probeTimeout
	client, err := shim.Start(ctx, b.shim, cfg)
	if err != nil {
		return seen, err
	}
	record, err := client.Info(ctx)
	if err != nil {
		return seen, err
	}
	if seen, err = b.observe(rt, &cfg, in.Limits, &record); err != nil {
		return seen, err
	}
	if trial != nil {
		if taken, err := trial.Taken(); err != nil || !taken {
			return seen, errors.Join(err, errors.New("the addresses are still those of the namespace"))
		}
	}
	return seen, seeEnd(ctx, client)
}

// seeEnd stops the sandbox of a probe. What counts is that its end was seen.
func seeEnd(ctx context.Context, client *shim.Client) error {
	if err := client.Stop(ctx, 0); err != nil && !fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		return err
	}
	exit, err := client.Wait(ctx)
	if err != nil {
		return err
	}
	if exit.Reason != shim.ReasonStopped {
		return fmt.Errorf("a sandbox that was stopped ended as %s: %s", exit.Reason, exit.Message)
	}
	return client.Forget(ctx)
}

// endProbe ends what is left of a probe, its shim too, wherever it was interrupted.
func endProbe(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	if client, err := shim.Connect(ctx, state); err == nil {
		// Errors mean that it ended by itself, or that it is not there any more; Cleanup tells.
		_ = client.Stop(ctx, 0)
		_, _ = client.Wait(ctx)
		_ = client.Forget(ctx)
	}
	_, err := shim.Cleanup(ctx, state)
	return err
}

// probeLimits uses every controller there is.
func (m *machine) probeLimits() bundle.Limits {
	l := bundle.Limits{Swap: m.swap, OpenFiles: m.openFiles}
	if m.cpu {
		l.CPUMillis = 1000
	}
	if m.memory {
		l.MemoryBytes = 4 * MinMemoryBytes
	}
	if m.pids {
		l.PIDs = DefaultPIDs
	}
	return l
}
