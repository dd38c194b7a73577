package server_test

import (
	"context"
	"sync"
	"testing"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// listed is how many sandboxes there are, launchesEach how many are launched a second meanwhile.
const (
	listed       = 100_000
	launchesEach = 200
)

// BenchmarkList is a page of 100 of 100,000 sandboxes, wherever it lies, and one of them, alone and while launches go on.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	start := w.starters()["native"]
	const callers = 32
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range listed / callers {
				w.must(start(b.Context()))
			}
		})
	}
	group.Wait()
	c := w.gateway()
	page := &v1beta2pb.ListSandboxesRequest{PageSize: 100}
	kinds := map[string]func(context.Context) error{
		"page": func(ctx context.Context) error {
			list, err := c.List(ctx, page)
			if err == nil && len(list.GetSandboxes()) != 100 && list.GetNextPageToken() != "" {
				b.Fatal(len(list.GetSandboxes()))
			}
			page.PageToken = list.GetNextPageToken()
			return err
		},
		"filtered": func(ctx context.Context) error {
			_, err := c.List(ctx, &v1beta2pb.ListSandboxesRequest{PageSize: 100, Tags: []string{"of-none"}})
			return err
		},
	}
	list, err := c.List(b.Context(), page)
	w.must(err)
	kinds["get"] = func(ctx context.Context) error {
		_, err := c.Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: list.GetSandboxes()[0].GetSandboxId()})
		return err
	}
	for name, call := range kinds {
		measure := func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				began := time.Now()
				w.must(call(b.Context()))
				all = append(all, time.Since(began))
			}
			percentiles(b, all)
		}
		b.Run(name, measure)
		b.Run(name+"/launching", func(b *testing.B) {
			stop := launching(b, start)
			defer stop()
			measure(b)
		})
	}
}

// launching launches so many a second until it is told to stop, and fails the benchmark when one fails.
func launching(b *testing.B, start func(context.Context) error) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(time.Second / launchesEach)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			group.Go(func() {
				if err := start(context.WithoutCancel(ctx)); err != nil {
					b.Error(err)
				}
			})
		}
	})
	return func() { cancel(); group.Wait() }
}
