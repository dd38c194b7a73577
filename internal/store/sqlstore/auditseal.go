package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// DefaultSealPause is how long rows gather before they are sealed.
	DefaultSealPause = 100 * time.Millisecond
	// sealBatch is how many rows one transaction seals.
	sealBatch = 512
	// sealChunk is how many rows one statement writes.
	sealChunk = 32
	// sealRetry is when sealing is tried again after it failed.
	sealRetry = time.Second
)

// sealer seals in the background, until it is told to quit. What is pending then is sealed by the next server.
type sealer struct {
	poked chan struct{}
	quit  func()
	done  chan struct{}
}

func (s *Store) startSealing(after time.Duration) {
	ctx, quit := context.WithCancel(context.Background())
	s.sealer = sealer{poked: make(chan struct{}, 1), quit: quit, done: make(chan struct{})}
	s.sealer.poke() // what a server that was killed left
	go func() {
		defer close(s.sealer.done)
		if after > 0 {
			s.sealUntil(ctx, after)
		}
	}()
}

func (s *sealer) poke() {
	select {
	case s.poked <- struct{}{}:
	default: // it has not come to the last one yet
	}
}

func (s *Store) sealUntil(ctx context.Context, after time.Duration) {
	for {
		select {
		case <-s.sealer.poked:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, after) {
			return
		}
		err := s.SealAudit(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.WarnContext(ctx, "the audit was not sealed; that is tried again", "error", err)
		pause(ctx, sealRetry)
		s.sealer.poke()
	}
}

// SealAudit implements store.Store.
func (s *Store) SealAudit(ctx context.Context) error {
	pending := false
	err := s.View(ctx, func(r store.Reader) (err error) {
		pending, err = r.(*reader).one(ctx, `SELECT id FROM audit_pending ORDER BY id LIMIT 1`, nil, new(int64))
		return err
	})
	if err != nil || !pending {
		return err
	}
	if err = s.sealAll(ctx, ``); err == nil || ctx.Err() != nil {
		return err
	}
	return s.sealEach(ctx, err)
}

// sealEach seals chain by chain, so that one that somebody spoilt holds up no other. together is why they could not be sealed at once.
func (s *Store) sealEach(ctx context.Context, together error) error {
	var chains []string
	if err := s.View(ctx, func(r store.Reader) error {
		chains = nil
		return r.(*reader).each(ctx, func(rows *sql.Rows) error {
			var chain string
			err := rows.Scan(&chain)
			chains = append(chains, chain)
			return err
		}, `SELECT DISTINCT chain FROM audit_pending ORDER BY chain`)
	}); err != nil {
		return errors.Join(together, err)
	}
	var all error
	for _, chain := range chains {
		if err := s.sealAll(ctx, `WHERE chain = $1`, chain); err != nil {
			all = errors.Join(all, fmt.Errorf("chain %q: %w", chain, err))
		}
	}
	return all
}

// sealAll seals the pending rows that a condition names, some at a time.
func (s *Store) sealAll(ctx context.Context, where string, args ...any) (err error) {
	for n := sealBatch; err == nil && n == sealBatch; {
		err = s.Update(ctx, func(t store.Tx) (err error) {
			n, err = t.(*tx).seal(ctx, where, args...)
			return err
		})
	}
	return err
}

// seal moves pending rows to their chains and returns how many. Servers that share the database do so one after the other.
func (t *tx) seal(ctx context.Context, where string, args ...any) (int, error) {
	if err := t.engine.lockAudit(ctx, t.conn); err != nil {
		return 0, t.fail(err)
	}
	var (
		ids     []any
		byChain = map[string][]*audit.Row{}
		chains  []string
	)
	err := t.each(ctx, func(rows *sql.Rows) error {
		var (
			id            int64
			chain, record string
		)
		if err := rows.Scan(&id, &chain, &record); err != nil {
			return err
		}
		r, err := audit.Decode(record)
		if err != nil {
			// It was changed before it had a place: that is all that can be told of it, and it must not hold up the others.
			r = &audit.Row{At: t.store.now(), Outcome: audit.Failed, Code: fault.Internal.String(), ErrorReason: fault.ReasonStoreCorrupt}
		}
		if _, ok := byChain[chain]; !ok {
			chains = append(chains, chain)
		}
		ids, byChain[chain] = append(ids, id), append(byChain[chain], r)
		return nil
	}, `SELECT id, chain, record FROM audit_pending `+where+` ORDER BY id LIMIT `+strconv.Itoa(sealBatch), args...)
	if err != nil {
		return 0, err
	}
	for _, chain := range chains {
		if err := t.extend(ctx, chain, byChain[chain]); err != nil {
			return 0, err
		}
	}
	return len(ids), t.inChunks(ctx, `DELETE FROM audit_pending WHERE id IN (`, `)`, 1, ids)
}

// extend appends rows to a chain. The caller holds the lock of the audit.
func (t *tx) extend(ctx context.Context, chain string, rows []*audit.Row) error {
	c, err := t.endOfChain(ctx, chain)
	if err != nil {
		return err
	}
	args := make([]any, 0, 9*len(rows))
	for _, r := range rows {
		r.Seq = c.Head.Seq + 1
		text, err := r.Encode()
		if err != nil {
			return fault.Internalf(err, "write an audit row as JSON")
		}
		c.Head = audit.Head{Seq: r.Seq, Hash: audit.Hash(chain, c.Head.Hash, text)}
		i := audit.IndexOf(r)
		args = append(args, chain, r.Seq, i.At, i.Actor, i.Method, i.ObjectID, i.Outcome, text, c.Head.Hash)
	}
	if err := t.inChunks(ctx, `INSERT INTO audit_rows (chain, seq, at, actor, method, object_id, outcome, record, hash) VALUES `, ``, 9, args); err != nil {
		return err
	}
	_, err = t.write(ctx, fpSeal, `INSERT INTO audit_chains (chain, head_seq, head_hash, anchor_seq, anchor_hash) VALUES ($1, $2, $3, 0, '')
		ON CONFLICT (chain) DO UPDATE SET head_seq = $2, head_hash = $3`, chain, c.Head.Seq, c.Head.Hash)
	return err
}

// endOfChain returns a chain whose head is where the next row follows. Rows beyond the head are somebody's work: what follows them has the
// next free place, but as the row before it one that never was, so that the chain does not verify from there on, whatever they put there.
func (t *tx) endOfChain(ctx context.Context, chain string) (audit.Chain, error) {
	c, err := t.AuditChain(ctx, chain)
	if err != nil {
		return c, err
	}
	var last int64
	if _, err := t.one(ctx, `SELECT coalesce(max(seq), 0) FROM audit_rows WHERE chain = $1`, []any{chain}, &last); err != nil {
		return c, err
	}
	if last == math.MaxInt64 {
		return c, fault.New(fault.Internal, fault.ReasonStoreCorrupt, "the audit chain %q has a row at the last place there can be: no row can follow", chain)
	}
	if last > c.Head.Seq {
		c.Head = audit.Head{Seq: last, Hash: "not " + c.Head.String()}
	}
	return c, nil
}

// inChunks runs a statement for every so many arguments, width of them together. There are two texts of it: full chunks, and single rows.
func (t *tx) inChunks(ctx context.Context, before, after string, width int, args []any) error {
	for len(args) > 0 {
		n := 1
		if len(args) >= sealChunk*width {
			n = sealChunk
		}
		if _, err := t.write(ctx, fpSeal, before+placeholders(n, width)+after, args[:n*width]...); err != nil {
			return err
		}
		args = args[n*width:]
	}
	return nil
}

// placeholders returns "($1, $2), ($3, $4)" for two rows of two; those of width 1 have no parentheses.
func placeholders(rows, width int) string {
	var b strings.Builder
	for i := range rows * width {
		if i > 0 {
			b.WriteString(", ")
		}
		if width > 1 && i%width == 0 {
			b.WriteByte('(')
		}
		b.WriteString("$" + strconv.Itoa(i+1))
		if width > 1 && i%width == width-1 {
			b.WriteByte(')')
		}
	}
	return b.String()
}
