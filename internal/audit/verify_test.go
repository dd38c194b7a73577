package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
)

// export returns an export of ten rows, and its head.
func export(t *testing.T) (lines []string, head audit.Head) {
	t.Helper()
	var (
		out  bytes.Buffer
		rows []string
	)
	for i := range 10 {
		r := &audit.Row{Seq: int64(i + 1), At: time.Unix(int64(i), 5), Actor: "token:<ci>\u2028", Outcome: audit.Done, Reason: `"ä"`}
		r.Clip()
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, text)
		head = audit.Head{Seq: r.Seq, Hash: audit.Hash("org", head.Hash, text)}
	}
	e := audit.NewExporter(&out)
	if err := e.Begin("org", "", head.String()); err != nil {
		t.Fatal(err)
	}
	before := ""
	for _, text := range rows {
		before = audit.Hash("org", before, text)
		if err := e.Row(before, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), head
}

func verify(lines []string, want *audit.Head) (audit.Result, error) {
	return audit.VerifyExport(strings.NewReader(strings.Join(lines, "\n")+"\n"), want)
}

func TestExport(t *testing.T) {
	lines, head := export(t)
	if got, err := verify(lines, &head); err != nil || got.Bad != "" || got.Rows != 10 || got.Head != head {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		change func(l []string) []string
		seq    int64
		says   string
	}{
		"a text":               {func(l []string) []string { l[4] = strings.Replace(l[4], "ci", "me", 1); return l }, 4, "hash mismatch"},
		"a line gone":          {func(l []string) []string { return append(l[:4:4], l[5:]...) }, 4, "row 4 is missing"},
		"a line twice":         {func(l []string) []string { return append(l[:5:5], l[4:]...) }, 5, "order"},
		"lines in other order": {func(l []string) []string { l[4], l[5] = l[5], l[4]; return l }, 4, "row 4 is missing"},
		"the end gone":         {func(l []string) []string { return l[:9] }, 9, "cut off"},
		"the chain":            {func(l []string) []string { l[0] = strings.Replace(l[0], `"org"`, `"gro"`, 1); return l }, 1, "hash mismatch"},
	} {
		lines, _ := export(t)
		got, err := verify(c.change(lines), nil)
		if err != nil || got.BadSeq != c.seq || !strings.Contains(got.Bad, c.says) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, lines := range [][]string{{}, {"{}"}, {`{"format":"x"}`}, {lines[0], "x"}} {
		if _, err := verify(lines, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", lines, err)
		}
	}
}

// TestExportOfTwoMeanings: a line that another reader could take for something else than what was hashed does not verify.
func TestExportOfTwoMeanings(t *testing.T) {
	for name, change := range map[string]func(line string) string{
		"a record twice":           func(l string) string { return strings.Replace(l, `"record":`, `"record":{"seq":4},"record":`, 1) },
		"a record in another case": func(l string) string { return strings.Replace(l, `"record":`, `"record":{"seq":4},"Record":`, 1) },
		"a hash twice":             func(l string) string { return strings.Replace(l, `{"hash":`, `{"hash":"x","HASH":`, 1) },
		"something more":           func(l string) string { return strings.Replace(l, `{"hash":`, `{"note":"x","hash":`, 1) },
		"formatted anew":           func(l string) string { return strings.Replace(l, `,"record":`, `, "record":`, 1) },
	} {
		lines, _ := export(t)
		lines[4] = change(lines[4])
		if got, err := verify(lines, nil); err != nil || got.BadSeq != 4 || got.Rows != 3 || !strings.Contains(got.Bad, "line 5") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	lines, _ := export(t)
	lines[0] = strings.Replace(lines[0], `"chain":`, `"chain":"another","Chain":`, 1)
	if got, err := verify(lines, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("the first line: %+v, %v", got, err)
	}
}

// TestHash: what the documentation says is enough to make it.
func TestHash(t *testing.T) {
	sum := sha256.Sum256([]byte("berm audit 1\norg\nbefore\n{}\n"))
	if got := audit.Hash("org", "before", "{}"); got != hex.EncodeToString(sum[:]) {
		t.Error(got)
	}
}

func TestHeads(t *testing.T) {
	_, head := export(t)
	if got, err := audit.ParseHead(head.String()); err != nil || got != head {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "@", "x@1", head.Hash, head.Hash + "@0", head.Hash + "@-1", head.Hash + "@x", strings.ToUpper(head.Hash) + "@1"} {
		if _, err := audit.ParseHead(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A head of before tells of a change after which all was chained anew.
	var anew []audit.Sealed
	c := audit.Chain{Name: "org"}
	for i := range 12 {
		text := fmt.Sprintf(`{"seq":%d}`, i+1)
		c.Head = audit.Head{Seq: int64(i + 1), Hash: audit.Hash("org", c.Head.Hash, text)}
		anew = append(anew, audit.Sealed{Seq: c.Head.Seq, Record: text, Hash: c.Head.Hash})
	}
	for want, bad := range map[*audit.Head]int64{nil: 0, &head: 10, {Seq: 12, Hash: c.Head.Hash}: 0, {Seq: 13, Hash: c.Head.Hash}: 13} {
		v := audit.NewVerifier(c, want)
		for _, s := range anew {
			v.Add(s)
		}
		if got := v.Result(); got.BadSeq != bad || (got.Bad != "") != (bad > 0) {
			t.Errorf("head %v: %+v", want, got)
		}
	}
}
