package sqlstore_test

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/store/sqlstore"
)

var updateGolden = flag.Bool("update", false, "write the golden schema anew")

func TestPlan(t *testing.T) {
	dsns := map[string]string{"sqlite": sqliteDSN(t), "postgres": postgres.Database(t)}
	for engine, dsn := range dsns {
		t.Run(engine, func(t *testing.T) {
			plan, err := sqlstore.Plan(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.All) == 0 || len(plan.Pending) != len(plan.All) || plan.Version != 0 || plan.Latest != int64(len(plan.All)) || plan.Engine != engine {
				t.Fatalf("the plan for an empty database is %+v", plan)
			}
			for i, m := range plan.All {
				if m.Version != int64(i+1) || m.Name == "" || !strings.Contains(m.SQL, "+goose Up") || strings.Contains(m.SQL, "+goose Down") {
					t.Errorf("migration %d is %+v", i, m)
				}
			}
			path, file := strings.CutPrefix(dsn, "sqlite://")
			if _, err := os.Stat(path); file && (err == nil || plan.Exists) {
				t.Error("the plan made the database, or says that it is there")
			}
			s := open(t, dsn)
			current := func(when string) {
				t.Helper()
				if plan, err := sqlstore.Plan(t.Context(), dsn); err != nil || len(plan.Pending) != 0 || plan.Version != plan.Latest || !plan.Exists {
					t.Errorf("%s: the plan for a current database is %+v, %v", when, plan, err)
				}
			}
			current("open")
			_ = s.Close()
			before := names(t, path, file)
			current("closed")
			if after := names(t, path, file); !slices.Equal(before, after) {
				t.Errorf("the plan left files: %q, before %q", after, before)
			}
			back(t, dsn, engine)
			if plan, err = sqlstore.Plan(t.Context(), dsn); err != nil || len(plan.Pending) != 1 || plan.Pending[0].Version != plan.Latest {
				t.Errorf("the plan for a database one step behind is %+v, %v", plan, err)
			}
		})
	}
}

// names lists the files beside a database.
func names(t *testing.T, path string, file bool) []string {
	t.Helper()
	if !file {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// back makes a database forget its last step.
func back(t *testing.T, dsn, engine string) {
	t.Helper()
	var db *sql.DB
	if engine == "sqlite" {
		var err error
		if db, err = sql.Open("sqlite", strings.TrimPrefix(dsn, "sqlite://")); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
	} else {
		db = raw(t, dsn)
	}
	if _, err := db.ExecContext(t.Context(), `DELETE FROM berm_schema WHERE version_id = (SELECT max(version_id) FROM berm_schema)`); err != nil {
		t.Fatal(err)
	}
}

// columns lists what a schema has, one text for both engines.
func columns(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var table, column, kind string
		var required bool
		if err := rows.Scan(&table, &column, &kind, &required); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s.%s %s required=%v", table, column, strings.ToLower(kind), required))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// TestSchema compares the schema of both engines with each other, and with the golden text: a migration that was released
// is never changed.
func TestSchema(t *testing.T) {
	lite, pg := sqliteDSN(t), postgres.Database(t)
	for _, dsn := range []string{lite, pg} {
		_ = open(t, dsn).Close()
	}
	db, err := sql.Open("sqlite", strings.TrimPrefix(lite, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sqlite := columns(t, db, `SELECT m.name, c.name, CASE c.type WHEN 'INTEGER' THEN 'bigint' ELSE c.type END, c."notnull" FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'berm_schema'`)
	server := columns(t, raw(t, pg), `SELECT table_name, column_name, data_type, is_nullable = 'NO' FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name <> 'berm_schema'`)
	if d := cmp.Diff(sqlite, server); d != "" {
		t.Errorf("the columns differ (-sqlite +postgres):\n%s", d)
	}
	golden(t, "schema.txt", strings.Join(append(sqlite, indexes(t, db)...), "\n")+"\n")
}

func indexes(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, d)
	}
}
