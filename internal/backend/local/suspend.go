package local

import (
	"context"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// Suspend saves a sandbox in its state directory. Its shim does it and remembers it, as with Pause.
func (b *Backend) Suspend(ctx context.Context, id string) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	if err := b.saves(s); err != nil {
		return err
	}
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if err := client.Suspend(ctx); err != nil {
		b.askPaused(s, client)
		return b.explain(id, err)
	}
	failpoint.Hit(failSuspended)
	o := paused(b.cfg.Now())
	o.Events[0].Message = "on disk"
	b.publish(s, o)
	return nil
}

// saves says why a sandbox cannot be saved and restored, nil when it can.
func (b *Backend) saves(s *sandbox) error {
	rt, err := b.runtime(s.work.Spec.GetRuntimeClass())
	if err != nil {
		return err
	}
	if !rt.kind.Checkpoints() {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "runtime %s cannot save sandboxes; runsc (gVisor) can", rt.name).
			WithHint("give the profile a runtime_class that berm runner describe shows checkpoint for")
	}
	if o, _ := read(s.work, b.machine); o.networked() {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "sandbox %s has a network, whose open connections the kernel of runtime %s cannot save", s.id, rt.name).
			WithHint("pause it in memory (without --to-disk), or save sandboxes with egress none")
	}
	return nil
}
