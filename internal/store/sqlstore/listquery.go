package sqlstore

import (
	"strconv"
	"strings"
)

// listQuery is the text of one list. Its first arguments are always the organization, the position (time and id) and the
// number of rows.
type listQuery struct {
	orgID string
	at    int64
	id    string
	size  int
	// driver is the filter whose index is walked, nil to walk all of the organization; rest are checked row by row.
	driver *filter
	rest   []filter

	args []any
}

// arg adds an argument and returns its placeholder.
func (q *listQuery) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

func (q *listQuery) begin() { q.args = []any{q.orgID, q.at, q.id, q.size} }

// text returns the query for a page, and its arguments.
func (q *listQuery) text() (string, []any) {
	q.begin()
	at, id := "s.created_at", "s.id"
	if q.driver != nil && q.driver.tag != "" {
		at, id = "t.created_at", "t.sandbox_id" // known before the sandbox is looked up
	}
	rest := q.conditions(at, id)
	branches := q.branches(rest, sandboxColumns)
	if len(branches) == 1 {
		return branches[0], q.args
	}
	// Each alternative is one walk; the newest of all of them are the page.
	var b strings.Builder
	for i, branch := range branches {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		b.WriteString("SELECT * FROM (" + branch + ") b" + strconv.Itoa(i))
	}
	b.WriteString(" ORDER BY created_at DESC, id DESC LIMIT $4")
	return b.String(), q.args
}

// count returns the query that counts the matches of the driver, up to size for each alternative.
func (q *listQuery) count() (string, []any) {
	q.begin()
	var b strings.Builder
	b.WriteString("SELECT count(*) FROM (")
	for i, branch := range q.branches("", "1 AS one") {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		b.WriteString("SELECT one FROM (" + branch + ") b" + strconv.Itoa(i))
	}
	b.WriteString(") c")
	return b.String(), q.args
}

// branches returns one query per alternative of the driver, each in the order of the list.
func (q *listQuery) branches(rest, columns string) []string {
	const position = ` AND (s.created_at, s.id) < ($2, $3)`
	const order = ` ORDER BY s.created_at DESC, s.id DESC LIMIT $4`
	from := `SELECT ` + columns + ` FROM sandboxes s WHERE s.org_id = $1`
	switch {
	case q.driver == nil:
		return []string{from + position + rest + order}
	case q.driver.tag != "":
		return []string{q.tagBranch(rest, columns)}
	}
	out := make([]string, len(q.driver.values))
	for i, v := range q.driver.values {
		out[i] = from + ` AND s.` + q.driver.column + ` = ` + q.arg(v) + position + rest + order
	}
	return out
}

// tagBranch walks the tags. CROSS JOIN keeps SQLite from turning the join round.
func (q *listQuery) tagBranch(rest, columns string) string {
	tag := q.arg(q.driver.tag)
	join := ""
	if columns == sandboxColumns {
		join = ` CROSS JOIN sandboxes s`
		rest = ` AND s.id = t.sandbox_id` + rest
	}
	return `SELECT ` + columns + ` FROM sandbox_tags t` + join + ` WHERE t.org_id = $1 AND t.tag = ` + tag +
		` AND (t.created_at, t.sandbox_id) < ($2, $3)` + rest + ` ORDER BY t.created_at DESC, t.sandbox_id DESC LIMIT $4`
}

// conditions are the filters that are checked row by row, for the position that at and id name. Their columns are hidden in an expression, so that no engine
// walks one of their indexes instead and has to sort.
func (q *listQuery) conditions(at, id string) string {
	var b strings.Builder
	for _, f := range q.rest {
		switch {
		case f.tag != "":
			b.WriteString(` AND EXISTS (SELECT 1 FROM sandbox_tags x WHERE x.org_id = $1 AND x.tag = ` + q.arg(f.tag) +
				` AND x.created_at = ` + at + ` AND x.sandbox_id = ` + id + `)`)
		default:
			b.WriteString(` AND s.` + f.column + ` || '' IN (`)
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
