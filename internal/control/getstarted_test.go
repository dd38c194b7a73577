package control_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// TestGetStarted: whoever asks right after a launch is answered when the sandbox runs or has failed, or when it is a second old.
func TestGetStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		delay, age, patience time.Duration
		fails                bool
		want                 core.Status
		wait                 time.Duration
	}{
		"runs soon":                   {delay: 300 * time.Millisecond, want: core.StatusRunning, wait: 300 * time.Millisecond},
		"fails soon":                  {delay: time.Hour, fails: true, want: core.StatusFailed, wait: 200 * time.Millisecond},
		"takes long":                  {delay: time.Hour, want: core.StatusCreating, wait: control.StartWait},
		"is not that young":           {delay: time.Hour, age: 700 * time.Millisecond, want: core.StatusCreating, wait: 300 * time.Millisecond},
		"is old":                      {delay: time.Hour, age: time.Minute, want: core.StatusCreating},
		"runs":                        {delay: 100 * time.Millisecond, age: 200 * time.Millisecond, want: core.StatusRunning},
		"the caller has no such time": {delay: time.Hour, patience: 600 * time.Millisecond, want: core.StatusCreating, wait: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldWith(t, control.Config{}, fake.Config{StartDelay: tt.delay})
				sb := w.launch(nil)
				time.Sleep(tt.age)
				if tt.fails {
					time.AfterFunc(tt.wait, func() { w.fakes["r1"].Fail(sb.ID, core.EndStartFailed, "no such program") })
				}
				ctx := w.ctx()
				if tt.patience > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.patience)
					defer cancel()
				}
				began := time.Now()
				v, err := w.svc.GetStarted(ctx, w.user, sb.ID)
				w.must(err)
				if took := time.Since(began); v.Sandbox.Status != tt.want || took != tt.wait {
					t.Errorf("%s after %s, want %s after %s", v.Sandbox.Status, took, tt.want, tt.wait)
				}
			})
		})
	}
}

// rowReads is a store that counts how often a sandbox was read.
type rowReads struct {
	store.Store
	n atomic.Int64
}

func (c *rowReads) View(ctx context.Context, fn func(store.Reader) error) error {
	return c.Store.View(ctx, func(r store.Reader) error { return fn(&rowReader{r, c}) })
}

type rowReader struct {
	store.Reader
	c *rowReads
}

func (r *rowReader) Sandbox(ctx context.Context, orgID, id string) (*core.Sandbox, error) {
	r.c.n.Add(1)
	return r.Reader.Sandbox(ctx, orgID, id)
}

// TestGetStartedReads: a sandbox is read again only where there was something to wait for.
func TestGetStartedReads(t *testing.T) {
	for age, want := range map[time.Duration]int64{0: 2, time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldWith(t, control.Config{}, fake.Config{StartDelay: time.Hour})
			c := &rowReads{Store: w.store}
			w.over(c, "", "r1")
			sb := w.launch(nil)
			time.Sleep(age)
			c.n.Store(0)
			v, err := w.svc.GetStarted(w.ctx(), w.user, sb.ID)
			w.must(err)
			if n := c.n.Load(); n != want || v.Sandbox.Status != core.StatusCreating {
				t.Errorf("after %s: %s was read %d times, want %d", age, v.Sandbox.Status, n, want)
			}
		})
	}
}
