package storetest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func lists(t *testing.T, e *env) {
	t.Run("filters", e.listFilters)
	t.Run("a list that grows", e.listGrowing)
	t.Run("forged and foreign positions", e.listForged)
	t.Run("what cannot be asked", e.listRefused)
}

// population makes sandboxes with every combination that filters tell apart, many of them at the same time.
func (e *env) population(t *testing.T, org string, n int) []*core.Sandbox {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]*core.Sandbox, n)
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for i := range all {
		s := e.sandbox(org)
		s.CreatedAt = start.Add(time.Duration(random.IntN(n/4)) * time.Nanosecond)
		s.Status = core.Status(pick("PENDING", "RUNNING", "RUNNING", "COMPLETED", "FAILED"))
		s.ProfileName, s.RunnerID = pick("agent", "eval", "a'b"), pick("r1", "r2", "r3")
		s.RunnerUUID = org + "/" + s.RunnerID
		s.Tags = nil
		for _, tag := range []string{"ci", "team", "rare", "100%"} {
			if random.IntN(3) == 0 {
				s.Tags = append(s.Tags, tag)
			}
		}
		all[i] = s
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		for _, s := range all {
			if err := tx.InsertSandbox(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b *core.Sandbox) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return all
}

// passes is the filter in Go.
func passes(f store.SandboxFilter, s *core.Sandbox) bool {
	among := func(v string, list []string) bool { return len(list) == 0 || slices.Contains(list, v) }
	for _, tag := range f.Tags {
		if !slices.Contains(s.Tags, tag) {
			return false
		}
	}
	return s.OrgID == f.OrgID && (f.IncludeEnded || !s.Status.Terminal()) && among(s.ProfileName, f.ProfileNames) && among(s.RunnerID, f.RunnerIDs) &&
		(f.RunnerUUID == "" || f.RunnerUUID == s.RunnerUUID) && (len(f.Statuses) == 0 || slices.Contains(f.Statuses, s.Status))
}

// listed reads a list page by page.
func listed(ctx context.Context, t *testing.T, r store.Reader, f store.SandboxFilter, size int) []*core.Sandbox {
	t.Helper()
	var all []*core.Sandbox
	for p := (store.Page{Size: size}); ; {
		page, next, err := r.Sandboxes(ctx, f, p)
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		if len(page) > size || next != "" && len(page) != size {
			t.Fatalf("%+v: a page of %d with size %d, next %q", f, len(page), size, next)
		}
		all = append(all, page...)
		if p.After = next; next == "" {
			return all
		}
	}
}

func ids(all []*core.Sandbox) []string {
	out := []string{}
	for _, s := range all {
		out = append(out, s.ID)
	}
	return out
}

func (e *env) listFilters(t *testing.T) {
	org := e.id("org")
	all := append(e.population(t, org, 120), e.population(t, e.id("org"), 20)...)
	choose := func(random *rand.Rand, from ...string) []string {
		var out []string
		for _, v := range from {
			if random.IntN(2) == 0 {
				out = append(out, v)
			}
		}
		return out
	}
	random := rand.New(rand.NewPCG(3, 4))
	filters := []store.SandboxFilter{{OrgID: org}, {OrgID: org, IncludeEnded: true}, {OrgID: org, Statuses: []core.Status{core.StatusRunning, core.StatusRunning}}}
	for range 200 {
		f := store.SandboxFilter{OrgID: org, IncludeEnded: random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			f.Tags = choose(random, "ci", "team", "rare", "100%")
			f.Tags = f.Tags[:min(len(f.Tags), 1+random.IntN(2))]
		}
		switch random.IntN(4) {
		case 0, 1:
			f.ProfileNames = choose(random, "agent", "a'b", "nothing")
		case 2:
			f.ProfileNames = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "agent"}
		}
		if random.IntN(3) == 0 {
			f.RunnerIDs = choose(random, "r1", "r2", "r1")
		}
		if random.IntN(4) == 0 {
			f.RunnerUUID = org + "/r2"
		}
		if random.IntN(2) == 0 {
			for _, s := range choose(random, "RUNNING", "FAILED", "COMPLETED") {
				f.Statuses = append(f.Statuses, core.Status(s))
			}
		}
		filters = append(filters, f)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		for _, f := range filters {
			var want []*core.Sandbox
			for _, s := range all {
				if passes(f, s) {
					slim := *s
					slim.Decision, slim.Launch = nil, nil
					want = append(want, &slim)
				}
			}
			for _, size := range []int{1 + random.IntN(7), store.MaxPage} {
				equal(t, fmt.Sprintf("%+v by %d", f, size), listed(ctx, t, r, f, size), want)
			}
		}
	})
}

// listGrowing reads a page, lets things happen, and goes on: what was there all the time is seen exactly once.
func (e *env) listGrowing(t *testing.T) {
	org := e.id("org")
	all := e.population(t, org, 40)
	f := store.SandboxFilter{OrgID: org, IncludeEnded: true}
	var got []string
	for p := (store.Page{Size: 7}); ; {
		e.view(t, func(ctx context.Context, r store.Reader) {
			page, next, err := r.Sandboxes(ctx, f, p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids(page)...)
			p.After = next
		})
		if p.After == "" {
			break
		}
		newer := e.sandbox(org)
		newer.CreatedAt = start.Add(time.Hour)
		e.launched(t, newer)
	}
	equal(t, "ids", got, ids(all))
}

func (e *env) listForged(t *testing.T) {
	mine, theirs := e.id("org"), e.id("org")
	e.population(t, mine, 20)
	e.population(t, theirs, 20)
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, foreign, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: theirs, IncludeEnded: true}, store.Page{Size: 5})
		if err != nil || foreign == "" {
			t.Fatalf("%q, %v", foreign, err)
		}
		page, _, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: mine, IncludeEnded: true}, store.Page{Size: 50, After: foreign})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			if s.OrgID != mine {
				t.Errorf("sandbox %s of another organization", s.ID)
			}
		}
		for _, forged := range []string{"x", "/", "1/", "/a", "1", "+1/a", "01/a", "9223372036854775808/a", "1e3/a", "1/\xff", "1/a\x00", "1/" + strings.Repeat("a", 5000)} {
			_, _, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: mine}, store.Page{Size: 5, After: forged})
			if !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonPageTokenInvalid) {
				t.Errorf("position %.20q: got %v, want PAGE_TOKEN_INVALID", forged, err)
			}
		}
		for _, odd := range []string{"-5/a", "0/a", "9223372036854775807/a", "1/a' OR '1'='1", "1/a/b"} {
			page, _, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: mine}, store.Page{Size: 50, After: odd})
			if err != nil {
				t.Errorf("position %q: %v", odd, err)
			}
			for _, s := range page {
				if s.OrgID != mine {
					t.Errorf("sandbox %s of another organization", s.ID)
				}
			}
		}
	})
}

func (e *env) listRefused(t *testing.T) {
	org := e.id("org")
	many := make([]string, store.MaxAlternatives+1)
	for i := range many {
		many[i] = e.id("v")
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		for _, f := range []store.SandboxFilter{
			{}, {OrgID: org, Tags: many[:store.MaxFilterTags+1]}, {OrgID: org, ProfileNames: many}, {OrgID: org, RunnerIDs: many}, {OrgID: org, Tags: []string{"\x00"}},
		} {
			_, _, err := r.Sandboxes(ctx, f, store.Page{Size: 5})
			wantCode(t, err, fault.Invalid)
		}
		for _, size := range []int{0, -1, store.MaxPage + 1} {
			_, _, err := r.Sandboxes(ctx, store.SandboxFilter{OrgID: org}, store.Page{Size: size})
			wantCode(t, err, fault.Invalid)
		}
		f := store.SandboxFilter{OrgID: org, Tags: many[:store.MaxFilterTags], ProfileNames: many[1:], RunnerIDs: many[1:], RunnerUUID: "x", Statuses: []core.Status{"a", "b"}}
		if all, _, err := r.Sandboxes(ctx, f, store.Page{Size: store.MaxPage}); err != nil || len(all) != 0 {
			t.Fatalf("the largest filter: %d, %v", len(all), err)
		}
	})
}
