package control_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// editors is how many edits of one binding list happen at once.
const editors = 100

// TestConcurrentBindingEdits: without an etag the last list wins, whole; with one, one edit of each state wins and the rest
// are told. Never a list of nobody, and always exactly one default.
func TestConcurrentBindingEdits(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{}`)
	list := func(i int) []core.Binding {
		return []core.Binding{
			{ProfileID: w.profile.ID, Default: i%2 == 0, Alias: fmt.Sprintf("a%d", i)},
			{ProfileID: agent.ID, Default: i%2 == 1, Alias: fmt.Sprintf("b%d", i)},
		}
	}
	check := func(v *control.RunnerView) {
		t.Helper()
		var n, defaults int
		if _, err := fmt.Sscanf(v.Runner.Bindings[0].Alias, "a%d", &n); err != nil || len(v.Runner.Bindings) != 2 || v.Runner.Bindings[1].Alias != fmt.Sprintf("b%d", n) {
			t.Errorf("a list that nobody wrote: %+v", v.Runner.Bindings)
		}
		for _, b := range v.Runner.Bindings {
			if b.Default {
				defaults++
			}
		}
		if defaults != 1 {
			t.Errorf("%d defaults", defaults)
		}
	}
	edit := func(i int, etag string) (*control.RunnerView, error) {
		v, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
			Mask: []string{"profile_bindings"}, Runner: control.RunnerInput{Bindings: list(i)}, Etag: etag,
		})
		return v, err
	}
	var group sync.WaitGroup
	for i := range editors {
		group.Go(func() {
			v, err := edit(i, "")
			if err != nil {
				t.Errorf("edit %d: %v", i, err)
				return
			}
			check(v)
		})
	}
	group.Wait()
	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	check(v)
	if v.Runner.Revision != 1+editors {
		t.Errorf("%d edits left revision %d: one was lost", editors, v.Runner.Revision)
	}
	// All from one state: one wins.
	etag := control.Etag(v.Runner.Meta)
	var won, told atomic.Int64
	for i := range editors {
		group.Go(func() {
			switch v, err := edit(1000+i, etag); {
			case err == nil:
				check(v)
				won.Add(1)
			case fault.Is(err, fault.Conflict) && fault.HasReason(err, fault.ReasonEtagMismatch):
				told.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || told.Load() != editors-1 {
		t.Errorf("%d won, %d were told", won.Load(), told.Load())
	}
	// Read, edit, write again on conflict: no edit is lost.
	for i := range 10 {
		group.Go(func() {
			for {
				now, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
				if err != nil {
					t.Error(err)
					return
				}
				bindings := append(now.Runner.Bindings, core.Binding{ProfileID: agent.ID, Alias: fmt.Sprintf("c%d", i)})
				_, _, err = w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
					Mask: []string{"profile_bindings"}, Runner: control.RunnerInput{Bindings: bindings}, Etag: control.Etag(now.Runner.Meta),
				})
				if !fault.Is(err, fault.Conflict) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	group.Wait()
	if v, err = w.svc.GetRunner(w.ctx(), w.user, "r1"); err != nil || len(v.Runner.Bindings) != 12 {
		t.Errorf("%d bindings, %v", len(v.Runner.Bindings), err)
	}
}

// TestEditsAndLaunchesTogether: every launch has the spec of one revision, and the revision that it says.
func TestEditsAndLaunchesTogether(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"container_image":"host","tags":["1"]}`)
	w.must(w.bind("r1", core.Binding{ProfileID: agent.ID, Default: true}))
	var group sync.WaitGroup
	group.Go(func() {
		for i := 2; i <= 30; i++ {
			w.editProfile("agent", fmt.Sprintf(`{"container_image":"host","tags":["%d"]}`, i))
		}
	})
	for range 4 {
		group.Go(func() {
			for range 20 {
				sb, pl, err := w.svc.Launch(w.ctx(), w.user, nil)
				if fault.HasReason(err, fault.ReasonReplanExhausted) {
					continue
				}
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				tags, _ := pl.Resolved.Lookup("tags")
				if want := fmt.Sprintf(`["%d"]`, sb.ProfileRevision); tags.String() != want {
					t.Errorf("tags %s at revision %d", tags, sb.ProfileRevision)
				}
			}
		})
	}
	group.Wait()
}
