package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/bermhq/berm/internal/core/fault"
)

// maxLine is the longest line of an export that is read, in bytes.
const maxLine = 1 << 20

// exportFormat names the form of an export.
const exportFormat = "berm audit 1"

// exportHead is the first line of an export.
type exportHead struct {
	Format string `json:"format"`
	// Chain is the id of the organization, "" for the installation.
	Chain string `json:"chain"`
	// Anchor is the last row that was dropped, Head the last there is: HASH@SEQ, "" for none.
	Anchor string `json:"anchor"`
	Head   string `json:"head"`
}

// exportRow is a line for a row. Its record is the text that was hashed, byte for byte.
type exportRow struct {
	Hash   string          `json:"hash"`
	Record json.RawMessage `json:"record"`
}

// Exporter writes an export.
type Exporter struct{ out *bufio.Writer }

// NewExporter returns one that writes to w.
func NewExporter(w io.Writer) *Exporter { return &Exporter{out: bufio.NewWriter(w)} }

// Begin writes the first line.
func (e *Exporter) Begin(chain, anchor, head string) error {
	return e.line(exportHead{Format: exportFormat, Chain: chain, Anchor: anchor, Head: head})
}

// Row writes the line of a row. One whose text is no JSON, because somebody changed it, is written as a string: it does not verify.
func (e *Exporter) Row(hash, record string) error {
	row := exportRow{Hash: hash, Record: json.RawMessage(record)}
	if !json.Valid(row.Record) {
		row.Record, _ = json.Marshal(record)
	}
	return e.line(row)
}

// Flush writes what is buffered.
func (e *Exporter) Flush() error { return e.out.Flush() }

func (e *Exporter) line(v any) error { return json.NewEncoder(e.out).Encode(v) }

// readLine reads what line wrote. exact is whether it is that byte for byte: a line that says something twice, or in another case, is read
// in one way here and in another by somebody else.
func readLine(text []byte, v any) (exact bool, err error) {
	if err := json.Unmarshal(text, v); err != nil {
		return false, err
	}
	var again bytes.Buffer
	err = json.NewEncoder(&again).Encode(v)
	return bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte("\n")), text), err
}

// VerifyExport verifies what an Exporter wrote. An export that does not go to its head is cut off.
func VerifyExport(in io.Reader, want *Head) (Result, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	var head exportHead
	begun := lines.Scan()
	exact, err := readLine(lines.Bytes(), &head)
	if !begun || err != nil || head.Format != exportFormat {
		return Result{}, errors.Join(lines.Err(), fault.Invalidf(fault.ReasonFieldInvalid, "this is no export of an audit: its first line does not say %q", exportFormat).
			WithHint("berm audit export writes one"))
	}
	if !exact {
		return Result{}, fault.Invalidf(fault.ReasonFieldInvalid, "the first line of the export is not as berm audit export writes it").
			WithHint("fields that are there twice, in another order or case, or formatted anew, mean different things to different readers")
	}
	c := Chain{Name: head.Chain}
	for _, end := range []struct {
		text string
		to   *Head
	}{{head.Anchor, &c.Anchor}, {head.Head, &c.Head}} {
		if end.text == "" {
			continue
		}
		if *end.to, err = ParseHead(end.text); err != nil {
			return Result{}, err
		}
	}
	v := NewVerifier(c, want)
	for n := 2; lines.Scan(); n++ {
		var row exportRow
		exact, err := readLine(lines.Bytes(), &row)
		if err != nil {
			return Result{}, fault.Invalidf(fault.ReasonFieldInvalid, "line %d of the export is not JSON", n).WithCause(err)
		}
		if !exact {
			return Result{Rows: v.rows, Head: v.last, BadSeq: v.last.Seq + 1, Bad: fmt.Sprintf("line %d of the export is not as berm audit export writes it", n)}, nil
		}
		seq := struct{ Seq int64 }{}
		_ = json.Unmarshal(row.Record, &seq) // what is no row is told by the verifier
		if !v.Add(Sealed{Seq: seq.Seq, Record: string(row.Record), Hash: row.Hash}) {
			break
		}
	}
	if err := lines.Err(); err != nil {
		return Result{}, fault.Invalidf(fault.ReasonFieldInvalid, "the export cannot be read").WithCause(err)
	}
	return v.Result(), nil
}

// String says what was found.
func (r Result) String() string {
	if r.Bad == "" {
		return fmt.Sprintf("%d rows, head %s", r.Rows, r.Head)
	}
	return fmt.Sprintf("row %d: %s", r.BadSeq, r.Bad)
}
