package sqlstore

import (
	"strconv"
	"strings"
)

// listQuery is the text of one list. Its first arguments are always the organization, the position (time and id) and the
// number of rows.
type listQuery struct {
	orgID string
	// position is where the page begins: behind it.
	position position
	size     int
	// driver is the filter whose index is walked, nil to walk all of the organization; rest are checked row by row.
	driver *filter
	rest   []filter
	// window, when not 0, is how many rows of each alternative are walked at most.
	window int

	args []any
}

// position is a place in the list: a sandbox made then, with this id, is there.
type position struct {
	at int64
	id string
}

// arg adds an argument and returns its placeholder.
func (q *listQuery) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

func (q *listQuery) begin() { q.args = []any{q.orgID, q.position.at, q.position.id, q.size} }

// text returns the query for a page, and its arguments.
func (q *listQuery) text() (string, []any) {
	q.begin()
	var branches []string
	switch {
	case q.window > 0:
		branches = q.windows()
	case q.byTag(): // the position is known before the sandbox is looked up
		branches = q.branches(q.conditions("s", "t.created_at", "t.sandbox_id"), sandboxColumns)
	default:
		branches = q.branches(q.conditions("s", "s.created_at", "s.id"), sandboxColumns)
	}
	if len(branches) == 1 {
		return branches[0], q.args
	}
	// Each alternative is one walk; the newest of all of them are the page.
	return q.union("*", branches) + " ORDER BY created_at DESC, id DESC LIMIT $4", q.args
}

func (q *listQuery) byTag() bool { return q.driver != nil && q.driver.tag != "" }

// union joins branches; as one SELECT, so that each may have an order and a limit.
func (q *listQuery) union(columns string, branches []string) string {
	var b strings.Builder
	for i, branch := range branches {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		b.WriteString("SELECT " + columns + " FROM (" + branch + ") b" + strconv.Itoa(i))
	}
	return b.String()
}

// windows returns the branches with their walks bounded. A walk ends by its own limit, not by a condition on its position: with
// that, SQLite takes the index of all sandboxes for as good as the driver's.
func (q *listQuery) windows() []string {
	columns, table := "s.created_at AS created_at, s.id AS id", "w"
	if q.byTag() {
		columns, table = "t.created_at AS created_at, t.sandbox_id AS id", "s"
	} else {
		for _, f := range q.rest {
			if f.tag == "" {
				columns += ", s." + f.column + " AS " + f.column
			}
		}
	}
	rest := q.conditions(table, "w.created_at", "w.id")
	walks := q.limited(q.arg(q.window), columns)
	for i, walk := range walks {
		walks[i] = `SELECT ` + sandboxColumns + ` FROM (` + walk + `) w CROSS JOIN sandboxes s WHERE s.id = w.id` + rest +
			` ORDER BY w.created_at DESC, w.id DESC LIMIT $4`
	}
	return walks
}

// bound returns the query for the newest of the positions at which windows end. A walk that is shorter ends nowhere.
func (q *listQuery) bound() (string, []any) {
	q.begin()
	columns := "s.created_at AS created_at, s.id AS id"
	if q.byTag() {
		columns = "t.created_at AS created_at, t.sandbox_id AS id"
	}
	q.args[3] = 1
	walks := q.limited("$4 OFFSET "+q.arg(q.window-1), columns)
	return q.union("created_at, id", walks) + " ORDER BY created_at DESC, id DESC LIMIT 1", q.args
}

// count returns the query that counts the matches of the driver, up to size for each alternative.
func (q *listQuery) count() (string, []any) {
	q.begin()
	return "SELECT count(*) FROM (" + q.union("one", q.branches("", "1 AS one")) + ") c", q.args
}

// branches returns one query per alternative of the driver, each in the order of the list, up to size rows.
func (q *listQuery) branches(rest, columns string) []string { return q.walks(rest, "$4", columns) }

// limited returns the walks of the driver's alternatives without other filters, up to a limit.
func (q *listQuery) limited(limit, columns string) []string { return q.walks("", limit, columns) }

func (q *listQuery) walks(rest, limit, columns string) []string {
	const position = ` AND (s.created_at, s.id) < ($2, $3)`
	order := ` ORDER BY s.created_at DESC, s.id DESC LIMIT ` + limit
	from := `SELECT ` + columns + ` FROM sandboxes s WHERE s.org_id = $1`
	switch {
	case q.driver == nil:
		return []string{from + position + rest + order}
	case q.byTag():
		return []string{q.tagWalk(rest, limit, columns)}
	}
	out := make([]string, len(q.driver.values))
	for i, v := range q.driver.values {
		out[i] = from + ` AND s.` + q.driver.column + ` = ` + q.arg(v) + position + rest + order
	}
	return out
}

// tagWalk walks the tags. CROSS JOIN keeps SQLite from turning the join round.
func (q *listQuery) tagWalk(rest, limit, columns string) string {
	tag := q.arg(q.driver.tag)
	join := ""
	if columns == sandboxColumns {
		join = ` CROSS JOIN sandboxes s`
		rest = ` AND s.id = t.sandbox_id` + rest
	}
	return `SELECT ` + columns + ` FROM sandbox_tags t` + join + ` WHERE t.org_id = $1 AND t.tag = ` + tag +
		` AND (t.created_at, t.sandbox_id) < ($2, $3)` + rest + ` ORDER BY t.created_at DESC, t.sandbox_id DESC LIMIT ` + limit
}

// conditions are the filters that are checked row by row: columns of table, tags by the position that at and id name. Columns
// are hidden in an expression, so that no engine walks one of their indexes instead and has to sort. OFFSET keeps PostgreSQL
// from making a join of the look for a tag: before it has statistics it takes that to be small, and goes through the tag's whole
// index for every row.
func (q *listQuery) conditions(table, at, id string) string {
	var b strings.Builder
	for _, f := range q.rest {
		switch {
		case f.tag != "":
			b.WriteString(` AND EXISTS (SELECT 1 FROM sandbox_tags x WHERE x.org_id = $1 AND x.tag = ` + q.arg(f.tag) +
				` AND x.created_at = ` + at + ` AND x.sandbox_id = ` + id + ` LIMIT 1 OFFSET 0)`)
		default:
			b.WriteString(` AND ` + table + `.` + f.column + ` || '' IN (`)
			for i, v := range f.values {
				if i > 0 {
					b.WriteString(", ")
				}
				b.WriteString(q.arg(v))
			}
			b.WriteString(`)`)
		}
	}
	return b.String()
}
