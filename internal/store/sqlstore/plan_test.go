package sqlstore

import (
	"database/sql"
	"math"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// explained returns SQLite's plan of a query, a line per step.
func explained(t *testing.T, e *sqliteEngine, query string, args []any) string {
	t.Helper()
	var b strings.Builder
	err := eachRow(t.Context(), e.group.session, func(rows *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		b.WriteString(detail + "\n")
		return err
	}, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return b.String()
}

// Every list walks the index that was chosen for it, in the order of the list: none sorts more than the few rows of a page.
func TestListsWalkAnIndex(t *testing.T) {
	_, e := openTest(t)
	all := store.SandboxFilter{
		OrgID: "org", Tags: []string{"a", "b"}, Statuses: []core.Status{core.StatusRunning}, ProfileNames: []string{"p"}, RunnerIDs: []string{"r"}, RunnerUUID: "u",
	}
	filters, err := filtersOf(all)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"status": "INDEX sandboxes_status (org_id=? AND status=? AND (created_at,id)<(?,?))", "profile_name": "INDEX sandboxes_profile (org_id=? AND profile_name=? AND (created_at,id)<(?,?))",
		"runner_id": "INDEX sandboxes_runner (org_id=? AND runner_id=? AND (created_at,id)<(?,?))", "": "PRIMARY KEY (org_id=? AND tag=? AND (created_at,sandbox_id)<(?,?))",
	}
	for i, f := range filters {
		if f.unindexed {
			continue
		}
		q := &listQuery{orgID: "org", size: 100, position: position{at: math.MaxInt64}, driver: &filters[i], rest: append(append([]filter(nil), filters[:i]...), filters[i+1:]...)}
		query, args := q.text()
		plan := explained(t, e, query, args)
		if !strings.Contains(strings.Split(plan, "\n")[0], want[f.column]) || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("by %+v:\n%s", f, plan)
		}
		q.window = 100
		query, args = q.text()
		if plan := explained(t, e, query, args); !strings.Contains(plan, want[f.column]) || strings.Contains(plan, "sandboxes_created") {
			t.Errorf("windows by %+v:\n%s", f, plan)
		}
		query, args = q.bound()
		if plan := explained(t, e, query, args); !strings.Contains(plan, "COVERING "+want[f.column]) && f.column != "" || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("bound by %+v:\n%s", f, plan)
		}
		q.window = 0
		query, args = q.count()
		if plan := explained(t, e, query, args); !strings.Contains(plan, "COVERING "+want[f.column]) && f.column != "" || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("count by %+v:\n%s", f, plan)
		}
	}
	query, args := (&listQuery{orgID: "org", size: 100, position: position{at: math.MaxInt64}}).text()
	if plan := explained(t, e, query, args); !strings.Contains(plan, "INDEX sandboxes_created (org_id=? AND (created_at,id)<(?,?))") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("without a filter:\n%s", plan)
	}
	if plan := explained(t, e, endedBefore, []any{"org", int64(1), int64(100)}); !strings.Contains(plan, "INDEX sandboxes_usage (org_id=? AND closed_at>? AND closed_at<?)") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("what ended:\n%s", plan)
	}
	live, err := filtersOf(store.SandboxFilter{OrgID: "org"})
	if err != nil {
		t.Fatal(err)
	}
	query, args = (&listQuery{orgID: "org", size: 100, position: position{at: math.MaxInt64}, driver: &live[0]}).text()
	if plan := explained(t, e, query, args); strings.Count(plan, want["status"]) != len(liveStatuses()) {
		t.Errorf("what is live:\n%s", plan)
	}
}

// What is asked for at every launch or at every start is found by an index.
func TestQueriesUseIndexes(t *testing.T) {
	_, e := openTest(t)
	for query, index := range map[string]string{
		`SELECT count(*) FROM sandboxes WHERE runner_uuid = $1 AND closed_at = 0`:                                                         "sandboxes_runner_live",
		`SELECT 1 FROM objects WHERE org_id = $1 AND kind = $2 AND unique_key <> '' AND unique_key = $3`:                                  "objects_unique_key",
		`SELECT id FROM sandboxes WHERE org_id = $1 AND user_id = $2 AND closed_at > $3 AND closed_at > 0`:                                "sandboxes_usage_user",
		`SELECT id FROM sandboxes WHERE org_id = $1 AND profile_id = $2 AND closed_at = 0`:                                                "sandboxes_usage_profile",
		`SELECT created_at FROM sandboxes WHERE org_id = $1 AND closed_at > $2 AND closed_at > 0`:                                         "sandboxes_usage",
		`SELECT created_at FROM sandboxes WHERE org_id = $1 AND status IN ('PENDING', 'CREATING', 'RUNNING', 'PAUSED', 'X') AND $2 <> ''`: "sandboxes_status",
	} {
		if plan := explained(t, e, query, []any{"a", "b", "c"}[:strings.Count(query, "$")]); !strings.Contains(plan, "INDEX "+index+" ") {
			t.Errorf("%s:\n%s", query, plan)
		}
	}
}
