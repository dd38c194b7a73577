//go:build crash

package crash

import (
	"fmt"
	"maps"
	"strings"
)

// written is one revision of an object, or the launch of a sandbox.
type written struct {
	kind, object string
	revision     int64
}

// audit checks that the chains of the audit hold, and that they tell once of every revision and every launch that there is, and of none
// besides.
func (w *work) audit() {
	w.m.t.Helper()
	for _, chain := range []string{"", "?installation=true"} {
		var got struct{ Bad string }
		w.m.read("/berm/v1/audit:verify"+chain, &got)
		if got.Bad != "" {
			w.m.t.Errorf("audit%s: %s", chain, got.Bad)
		}
	}
	told := w.m.told()
	want := map[written]int{}
	for id := range w.m.list() {
		want[written{"sandbox", id, 1}] = 1
	}
	for _, path := range []string{"profiles/" + w.config.profile.ID, "runners/local"} {
		kinds, id, _ := strings.Cut(path, "/")
		kind := strings.TrimSuffix(kinds, "s")
		for _, n := range w.config.numbers(path) {
			want[written{kind, id, int64(n)}] = 1
		}
	}
	for _, id := range w.leases {
		var lease struct{ State string }
		if w.m.read("/berm/v1/leases/"+id, &lease); lease.State == "LEASE_STATE_RELEASED" {
			want[written{"lease", id, 2}] = 1 // its end, once
		}
	}
	// Objects that were made and deleted are told of as well; here it is those that can be listed.
	maps.DeleteFunc(told, func(r written, _ int) bool {
		return r.kind == "profile" && r.object != w.config.profile.ID || r.kind == "runner" && r.object != "local" || r.kind == "zone" || strings.HasPrefix(r.kind, "secret")
	})
	if fmt.Sprint(told) != fmt.Sprint(want) {
		for r, n := range want {
			if told[r] != n {
				w.m.t.Errorf("the audit tells %d times of %+v", told[r], r)
			}
		}
		for r, n := range told {
			if want[r] != n {
				w.m.t.Errorf("the audit tells %d times of %+v, which is not there", n, r)
			}
		}
	}
}

// told counts the rows of what was done, by what they tell of: runners by their name, all else by id.
func (m *machine) told() map[written]int {
	m.t.Helper()
	out := map[written]int{}
	for token := ""; ; {
		var page struct {
			Rows []struct {
				Kind, ObjectID, ObjectName string
				Revision                   int64 `json:",string"`
			}
			NextPageToken string
		}
		m.read("/berm/v1/audit?outcome=done&pageSize=1000&pageToken="+token, &page)
		for _, r := range page.Rows {
			if r.Revision == 0 || r.Kind == "token" {
				continue // no object that has revisions
			}
			id := r.ObjectID
			if r.Kind == "runner" {
				id = r.ObjectName
			}
			out[written{r.Kind, id, r.Revision}]++
		}
		if token = page.NextPageToken; token == "" {
			return out
		}
	}
}
