package audit

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
)

// Head is a position of a chain: the hash of the row there. Seq 0 and no hash is before the first.
type Head struct {
	Seq  int64
	Hash string
}

// String returns "HASH@SEQ".
func (h Head) String() string { return h.Hash + "@" + strconv.FormatInt(h.Seq, 10) }

// ParseHead reads what String returns.
func ParseHead(text string) (Head, error) {
	hash, seq, ok := strings.Cut(text, "@")
	n, err := strconv.ParseInt(seq, 10, 64)
	if !ok || err != nil || n < 1 || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
		return Head{}, fault.Invalidf(fault.ReasonFieldInvalid, "%.100q is no head of an audit chain", text).
			WithField("head", "must be HASH@SEQ, as berm audit verify prints it")
	}
	return Head{Seq: n, Hash: hash}, nil
}

// Chain is where a chain begins and ends. Anchor is the last row that was dropped.
type Chain struct {
	Name         string
	Anchor, Head Head
}

// Sealed is a row as it is kept.
type Sealed struct {
	Seq          int64
	Record, Hash string
	// Index is what filters look at, and must be what the record says; nil where there is none.
	Index *Index
}

// Index is what the store finds a row by.
type Index struct {
	At                               int64
	Actor, Method, ObjectID, Outcome string
}

// IndexOf returns the index of a row.
func IndexOf(r *Row) Index {
	return Index{At: r.At.UnixNano(), Actor: r.Actor, Method: r.Method, ObjectID: r.ID, Outcome: r.Outcome}
}

// Verifier checks the rows of one chain in their order.
type Verifier struct {
	chain Chain
	// want is a head that somebody kept, nil for none; seen says that the chain has it.
	want *Head
	seen bool
	last Head
	rows int64
	// told is up to where rows of the chain say that rows are dropped: the farthest, as two servers may say so in any order. Some of those
	// may be there still.
	told Head
	bad  string
	at   int64
}

// NewVerifier returns a verifier of a chain. want, when not nil, is a head of it that was kept elsewhere.
func NewVerifier(c Chain, want *Head) *Verifier {
	v := &Verifier{chain: c, want: want, last: c.Anchor}
	v.match()
	return v
}

// Result is what a verification found.
type Result struct {
	// Rows is how many were found good, Head the last of them.
	Rows int64
	Head Head
	// Bad says what is wrong, "" for nothing, and BadSeq where: the first row that is not as it was written.
	Bad    string
	BadSeq int64
}

// Add checks the next row and reports whether it is good. After one that is not, nothing more is looked at.
func (v *Verifier) Add(s Sealed) bool {
	if v.bad != "" {
		return false
	}
	if what := v.wrong(s); what != "" {
		v.bad, v.at = what, v.last.Seq+1
		return false
	}
	v.last, v.rows = Head{Seq: s.Seq, Hash: s.Hash}, v.rows+1
	v.match()
	return v.bad == ""
}

// wrong says what is wrong with a row, "" for nothing.
func (v *Verifier) wrong(s Sealed) string {
	next := v.last.Seq + 1
	if s.Seq > next {
		return fmt.Sprintf("row %d is missing: row %d follows row %d", next, s.Seq, v.last.Seq)
	}
	if s.Seq < next {
		return fmt.Sprintf("order: row %d stands where row %d belongs", s.Seq, next)
	}
	r, err := Decode(s.Record)
	if err != nil {
		return "its text is not a row"
	}
	if r.Seq != s.Seq {
		return fmt.Sprintf("order: its text is that of row %d", r.Seq)
	}
	if is := Hash(v.chain.Name, v.last.Hash, s.Record); is != s.Hash {
		return fmt.Sprintf("hash mismatch: its text and the rows before it give %s, it has %s", short(is), short(s.Hash))
	}
	if s.Index != nil && *s.Index != IndexOf(r) {
		return "what it is found by is not what its text says"
	}
	if r.Outcome == Pruned && r.Count > v.told.Seq {
		v.told = Head{Seq: r.Count, Hash: r.Before}
	}
	return ""
}

// match compares with the head that was kept.
func (v *Verifier) match() {
	if v.want == nil || v.last.Seq != v.want.Seq {
		return
	}
	v.seen = true
	if v.last.Hash != v.want.Hash {
		v.bad, v.at = fmt.Sprintf("its hash is %s, and was %s when the head was written down: it or a row before it was changed", short(v.last.Hash), short(v.want.Hash)), v.last.Seq
	}
}

// Result says what was found. It is called after the last row.
func (v *Verifier) Result() Result {
	r := Result{Rows: v.rows, Head: v.last, Bad: v.bad, BadSeq: v.at}
	switch {
	case r.Bad != "":
	case v.last != v.chain.Head:
		r.BadSeq = v.last.Seq + 1
		r.Bad = fmt.Sprintf("the chain ends with row %d, and its head is row %d (%s): rows are cut off its end, or the head was changed", v.last.Seq, v.chain.Head.Seq, short(v.chain.Head.Hash))
	case v.told.Seq < v.chain.Anchor.Seq, v.told.Seq == v.chain.Anchor.Seq && v.told != v.chain.Anchor:
		r.BadSeq = v.chain.Anchor.Seq
		r.Bad = fmt.Sprintf("rows up to %d are missing, and no row says that they were dropped", v.chain.Anchor.Seq)
	case v.want != nil && !v.seen && v.want.Seq < v.chain.Anchor.Seq:
		r.BadSeq = v.want.Seq
		r.Bad = fmt.Sprintf("the row of the head that was written down has been dropped; the chain begins after row %d", v.chain.Anchor.Seq)
	case v.want != nil && !v.seen:
		r.BadSeq = v.last.Seq + 1
		r.Bad = fmt.Sprintf("the chain ends with row %d, before the head that was written down (%d): rows are cut off its end", v.last.Seq, v.want.Seq)
	}
	return r
}

func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12] + "…"
	}
	return fmt.Sprintf("%q", hash)
}
