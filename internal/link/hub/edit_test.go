package hub_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/link/dial"
	"github.com/bermhq/berm/internal/link/hub"
)

// TestBindingEditsWhileLaunchesAreInFlight: each of 100 launches runs with the overrides of the revision that it names, as decided here and
// as the runner got it, and none with older ones than there were when it began.
func TestBindingEditsWhileLaunchesAreInFlight(t *testing.T) {
	const launches, at = 100, 10
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	b := fake.New(fake.Config{})
	w.start(w.enrol("r1", "machine:1"), "a", b, true)
	var tags sync.Map // of revisions of the runner
	var newest atomic.Int32
	edit := func(i int) {
		layer, err := spec.FromMessage(&specpb.ProfileSpec{Tags: []string{fmt.Sprint(i)}})
		w.must(err)
		v, _, err := w.svc.UpdateBinding(w.ctx(), w.admin, "r1", control.DefaultProfile, control.BindingPatch{Mask: []string{"overrides_json"}, Binding: core.Binding{Overrides: layer}}, control.EditState{})
		w.must(err)
		tags.Store(v.Runner.Revision, fmt.Sprint(i))
		newest.Store(v.Runner.Revision)
	}
	edit(0)
	var group, editing sync.WaitGroup
	over := make(chan struct{})
	editing.Go(func() {
		for i := 1; i <= 50; i++ {
			select {
			case <-over:
				return
			default:
				edit(i)
			}
		}
	})
	ids := make(chan *core.Sandbox, launches)
	for range at {
		group.Go(func() {
			for range launches / at {
				before := newest.Load()
				l := &specpb.Launch{RunnerIds: []string{"r1"}, Command: "sleep", Args: []string{"infinity"}}
				sb, _, err := w.svc.Launch(w.ctx(), w.admin, l)
				for fault.HasReason(err, fault.ReasonReplanExhausted) { // It says so, and changed nothing.
					sb, _, err = w.svc.Launch(w.ctx(), w.admin, l)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if sb.RunnerRevision < before {
					t.Errorf("revision %d, and %d was there before", sb.RunnerRevision, before)
				}
				ids <- sb
			}
		})
	}
	group.Wait()
	close(over)
	editing.Wait()
	close(ids)
	for sb := range ids {
		want, _ := tags.Load(sb.RunnerRevision)
		w.eventually("the runner gets it", func() bool { return b.Work(sb.ID) != nil })
		if got := b.Work(sb.ID).Spec.GetTags(); len(got) != 1 || got[0] != want {
			text, _ := protojson.Marshal(b.Work(sb.ID).Spec)
			t.Errorf("revision %d has tag %v, and what runs is %s", sb.RunnerRevision, want, text)
		}
	}
}

// TestExpiredCredential: a runner that was away for longer than its credential holds is told what to do.
func TestExpiredCredential(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{CredentialTTL: 50 * time.Millisecond}, "r1")
	c := w.enrol("r1", "machine:1")
	w.eventually("it expires", func() bool {
		_, err := w.svc.AuthenticateRunner(w.ctx(), c.Secret, c.Identity)
		return err != nil
	})
	p := w.start(c, "a", fake.New(fake.Config{}), false)
	err := <-p.err
	p.err <- err
	wantFault(t, err, fault.Unauthenticated, fault.ReasonRunnerCredential)
	if fault.From(err).Hint == "" {
		t.Error("nothing says what to do")
	}
}

// TestStolenCredential: it is of no use on another machine or cluster.
func TestStolenCredential(t *testing.T) {
	w := newWorld(t, hub.Config{}, control.Config{}, "r1")
	c := w.enrol("r1", "cluster:1")
	thief := &dial.Credential{RunnerID: c.RunnerID, RunnerUUID: c.RunnerUUID, Secret: c.Secret, Identity: "cluster:2", ExpiresAt: c.ExpiresAt}
	p := w.start(thief, "thief", fake.New(fake.Config{}), false)
	err := <-p.err
	p.err <- err
	wantFault(t, err, fault.Denied, fault.ReasonRunnerIdentity)
	w.start(c, "a", fake.New(fake.Config{}), true)
}
