// Package audit is the record of who did what: what a row says, how rows are chained, and how a chain is verified.
//
// Every organization has a chain, and the installation one more, named "". Each row has the SHA-256 of the row before it and of its own
// text, so that nobody changes, removes, inserts or moves a row without every later hash being another. A chain alone cannot say that
// rows were cut off its end, nor that all of it was made anew: for that, somebody elsewhere keeps a head (Head).
//
// The store writes rows in the transaction of what they tell of, and chains them afterwards; see the ADR on audit. Nothing here does I/O.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core/fault"
)

// Outcomes of what a row tells of.
const (
	// Done: it took effect, in the transaction of the row where it is something that the store has.
	Done = "done"
	// Refused: nothing was done.
	Refused = "refused"
	// Failed: it is not known whether it took effect.
	Failed = "failed"
	// Omitted: Count refused attempts have no rows of their own.
	Omitted = "omitted"
	// Lost: Count rows, of what was done or refused, found no room while the store could not be written.
	Lost = "lost"
	// Pruned: the rows up to Count were dropped, having been kept for long enough. Before is the hash of the last.
	Pruned = "pruned"
)

// Installation is the chain of what belongs to no organization.
const Installation = ""

// MaxText is the longest text of a row, in bytes; a longer one is cut. MaxReason is that of the reason given.
const (
	MaxText   = 256
	MaxReason = 1024
)

// Row is one entry. Its JSON, in this order of fields, is what is kept and hashed. No row has secrets, bodies or environment.
type Row struct {
	// Seq counts from 1 in each chain, without gaps. It is 0 before the row has its place.
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
	// Actor is "token:NAME", or what an object says of who wrote it; "" is a caller who did not say who they are.
	Actor   string `json:"actor"`
	TokenID string `json:"token_id,omitempty"`
	Role    string `json:"role,omitempty"`
	// ActorOrg is the organization of the actor, where it is another than that of the chain.
	ActorOrg string `json:"actor_org,omitempty"`
	// Method is the use case, "UpdateProfile"; "" is the server itself.
	Method string `json:"method,omitempty"`
	// Kind, ID, Name and Revision are of the object, as far as they are known.
	Kind     string `json:"kind,omitempty"`
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Outcome  string `json:"outcome"`
	// Code and ErrorReason say why it was refused.
	Code        string `json:"code,omitempty"`
	ErrorReason string `json:"error_reason,omitempty"`
	// Before and After are digests of the object. That of a sandbox is of its resolved spec.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Reason is what the actor gave as the reason.
	Reason    string `json:"reason,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Address is where the connection came from, UserAgent what the program called itself.
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	// Count is how many rows Omitted and Lost stand for, and the last that Pruned does.
	Count int64 `json:"count,omitempty"`
}

// Encode returns the text that is kept.
func (r *Row) Encode() (string, error) {
	text, err := json.Marshal(r)
	return string(text), err
}

// Decode reads what Encode wrote.
func Decode(text string) (*Row, error) {
	r := &Row{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fault.New(fault.Internal, fault.ReasonStoreCorrupt, "an audit row cannot be read").WithCause(err)
	}
	return r, nil
}

// Clip bounds the texts of a row and makes them ones that every store keeps.
func (r *Row) Clip() {
	for _, s := range []*string{
		&r.Actor, &r.TokenID, &r.Role, &r.ActorOrg, &r.Method, &r.Kind, &r.ID, &r.Name, &r.Code, &r.ErrorReason, &r.Before, &r.After,
		&r.RequestID, &r.Address, &r.UserAgent,
	} {
		*s = clip(*s, MaxText)
	}
	r.Reason = clip(r.Reason, MaxReason)
	r.At = r.At.UTC()
}

func clip(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= most {
		return s
	}
	cut := most - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Digest returns the digest of a text, as rows have it.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Hash returns the hash of a row: of the chain's name, the hash before it ("" before the first) and its text, a line each.
func Hash(chain, previous, text string) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "berm audit 1\n%s\n%s\n%s\n", chain, previous, text)
	return hex.EncodeToString(h.Sum(nil))
}
