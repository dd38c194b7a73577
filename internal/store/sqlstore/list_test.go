package sqlstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// longList makes 10,500 sandboxes, many of them at the same time: the even ones have the tag a and run, the odd ones have b
// and failed, and every 3,001st has both tags.
func longList(t *testing.T, s store.Store) (both []string) {
	t.Helper()
	const rows, perCommit = 10_500, 3500
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for from := 0; from < rows; from += perCommit {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			for i := from; i < from+perCommit; i++ {
				sb := &core.Sandbox{
					ID: fmt.Sprintf("sb-%06d", i), OrgID: "org", RunnerUUID: "u", RunnerID: "r", ProfileID: "p", ProfileName: "agent", ZoneName: "z",
					Status: core.StatusRunning, Observation: core.ObservationCurrent, CreatedAt: at.Add(time.Duration(i/7) * time.Second), Tags: []string{"a"},
				}
				if i%2 == 1 {
					sb.Status, sb.Tags = core.StatusFailed, []string{"b"}
				}
				if i%3001 == 0 {
					sb.Tags = []string{"a", "b"}
					both = append(both, sb.ID)
				}
				if err := tx.InsertSandbox(t.Context(), sb); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(both)
	return both
}

// A filter that many rows pass, beside another that passes few of those, costs no page a look at all rows: pages come out
// short, and together they have everything once and in order.
func TestLongWalksAreCutIntoPages(t *testing.T) {
	for name, dsn := range map[string]func() string{
		"SQLite": func() string { return sqliteDSN(t) }, "PostgreSQL": func() string { return postgres.Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, dsn())
			defer s.Close()
			both := longList(t, s)
			ended := core.StatusCompleted // of nobody
			many := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "agent"}
			for name, c := range map[string]struct {
				filter store.SandboxFilter
				want   []string
			}{
				"two tags":                {store.SandboxFilter{Tags: []string{"a", "b"}, IncludeEnded: true}, both},
				"a tag and a status":      {store.SandboxFilter{Tags: []string{"b"}, Statuses: []core.Status{core.StatusRunning, ended}, IncludeEnded: true}, []string{"sb-006002", "sb-000000"}},
				"a profile and a status":  {store.SandboxFilter{ProfileNames: []string{"agent"}, Statuses: []core.Status{ended, core.StatusPaused}, IncludeEnded: true}, nil},
				"too many to walk, alone": {store.SandboxFilter{ProfileNames: many[:9], IncludeEnded: true}, nil},
				"too many, and a tag":     {store.SandboxFilter{ProfileNames: many, Tags: []string{"a", "b"}, IncludeEnded: true}, both},
			} {
				c.filter.OrgID = "org"
				got, pages := readAll(t, s, c.filter)
				if !slices.Equal(got, c.want) {
					t.Errorf("%s: got %v, want %v", name, got, c.want)
				}
				if pages > 4 {
					t.Errorf("%s: %d pages", name, pages)
				}
				if len(c.want) > 0 && pages < 2 {
					t.Errorf("%s: all in one page: the walk was not cut", name)
				}
			}
			all, pages := readAll(t, s, store.SandboxFilter{OrgID: "org", Tags: []string{"a"}, ProfileNames: []string{"agent"}, IncludeEnded: true})
			if len(all) != 5252 || !slices.IsSortedFunc(all, func(a, b string) int { return strings.Compare(b, a) }) || pages > 7 {
				t.Errorf("%d of 5252 in %d pages", len(all), pages)
			}
		})
	}
}

func readAll(t *testing.T, s store.Store, f store.SandboxFilter) (ids []string, pages int) {
	t.Helper()
	for p := (store.Page{Size: store.MaxPage}); ; pages++ {
		err := s.View(t.Context(), func(r store.Reader) error { return onePage(t.Context(), r, f, &p, &ids) })
		if err != nil {
			t.Fatal(err)
		}
		if p.After == "" {
			return ids, pages + 1
		}
	}
}

func onePage(ctx context.Context, r store.Reader, f store.SandboxFilter, p *store.Page, ids *[]string) error {
	page, next, err := r.Sandboxes(ctx, f, *p)
	for _, sb := range page {
		*ids = append(*ids, sb.ID)
	}
	p.After = next
	return err
}
