package sqlstore_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
)

// TestParameters holds what the one SQL text is built on: both drivers bind $N by number, in any order and more than once.
func TestParameters(t *testing.T) {
	lite, err := sql.Open("sqlite", strings.TrimPrefix(sqliteDSN(t), "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer lite.Close()
	for engine, db := range map[string]*sql.DB{"sqlite": lite, "postgres": raw(t, postgres.Database(t))} {
		t.Run(engine, func(t *testing.T) {
			mustExec(t, db, `CREATE TABLE p (a TEXT, b TEXT, n BIGINT)`)
			mustExec(t, db, `INSERT INTO p (n, b, a) VALUES ($3, $2, $1)`, "a", "b", 3)
			mustExec(t, db, `INSERT INTO p (a, b, n) VALUES ($1, $1, $2)`, "same", 4)
			var n int64
			if err := db.QueryRowContext(t.Context(), `SELECT n FROM p WHERE b = $2 AND a = $1`, "a", "b").Scan(&n); err != nil || n != 3 {
				t.Errorf("out of order: %d, %v; want 3", n, err)
			}
			if err := db.QueryRowContext(t.Context(), `SELECT n FROM p WHERE b = $1 AND a = $1 AND n = $2 AND $2 = n`, "same", 4).Scan(&n); err != nil || n != 4 {
				t.Errorf("repeated: %d, %v; want 4", n, err)
			}
			if err := db.QueryRowContext(t.Context(), `SELECT n FROM p WHERE b = $2 AND a = $1`, "b", "a").Scan(&n); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("exchanged: %d, %v; want no row", n, err)
			}
			if err := db.QueryRowContext(t.Context(), `SELECT n FROM p WHERE (a, n) < ($1, $2) ORDER BY a DESC, n DESC LIMIT $3`, "same", 4, 1).Scan(&n); err != nil || n != 3 {
				t.Errorf("row values: %d, %v; want 3", n, err)
			}
		})
	}
}
