package sqlstore

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/store"
)

// PruneAudit implements store.Store. First a row of the chain says what goes, then it goes, a part at a time: whenever that is interrupted,
// the chain is whole.
func (s *Store) PruneAudit(ctx context.Context, chain string, before time.Time, most int64) (dropped int64, err error) {
	last, err := s.lastToDrop(ctx, chain, before, most)
	if err != nil || last.Seq == 0 {
		return 0, err
	}
	err = s.Update(ctx, func(t store.Tx) error { return t.(*tx).tellPruned(ctx, chain, last) })
	for more := true; err == nil && more; {
		var n int64
		err = s.Update(ctx, func(t store.Tx) (err error) {
			n, more, err = t.(*tx).prune(ctx, chain, last)
			return err
		})
		if err == nil {
			dropped += n
		}
	}
	return dropped, err
}

// lastToDrop returns the last of the rows that go, the zero Head for none.
func (s *Store) lastToDrop(ctx context.Context, chain string, before time.Time, most int64) (last audit.Head, err error) {
	for seq, more := int64(0), true; err == nil && more; {
		err = s.View(ctx, func(r store.Reader) error {
			c, err := r.AuditChain(ctx, chain)
			if err != nil {
				return err
			}
			page, err := r.AuditAfter(ctx, chain, max(seq, c.Anchor.Seq), store.MaxPage)
			for _, row := range page {
				if row.Index.At >= nanos(before) && row.Seq > c.Head.Seq-most {
					page = nil // what follows is newer
					break
				}
				last, seq = audit.Head{Seq: row.Seq, Hash: row.Hash}, row.Seq
			}
			more = len(page) == store.MaxPage
			return err
		})
	}
	return last, err
}

// tellPruned appends the row that says that the rows up to one are dropped, unless another server has dropped them meanwhile.
func (t *tx) tellPruned(ctx context.Context, chain string, last audit.Head) error {
	if err := t.engine.lockAudit(ctx, t.conn); err != nil {
		return t.fail(err)
	}
	if c, err := t.AuditChain(ctx, chain); err != nil || c.Anchor.Seq >= last.Seq {
		return err
	}
	return t.extend(ctx, chain, []*audit.Row{{At: t.store.now().UTC(), Outcome: audit.Pruned, Count: last.Seq, Before: last.Hash}})
}

// prune drops some of the rows up to one, and returns how many and whether there are more. The last of them becomes the anchor.
func (t *tx) prune(ctx context.Context, chain string, last audit.Head) (n int64, more bool, err error) {
	if err := t.engine.lockAudit(ctx, t.conn); err != nil {
		return 0, false, t.fail(err)
	}
	c, err := t.AuditChain(ctx, chain)
	if err != nil || c.Anchor.Seq >= last.Seq {
		return 0, false, err
	}
	anchor := audit.Head{Seq: min(c.Anchor.Seq+sealBatch, last.Seq)}
	if _, err := t.one(ctx, `SELECT hash FROM audit_rows WHERE chain = $1 AND seq = $2`, []any{chain, anchor.Seq}, &anchor.Hash); err != nil {
		return 0, false, err
	}
	if _, err := t.write(ctx, fpPrune, `DELETE FROM audit_rows WHERE chain = $1 AND seq <= $2`, chain, anchor.Seq); err != nil {
		return 0, false, err
	}
	_, err = t.write(ctx, fpPrune, `UPDATE audit_chains SET anchor_seq = $1, anchor_hash = $2 WHERE chain = $3`, anchor.Seq, anchor.Hash, chain)
	return anchor.Seq - c.Anchor.Seq, anchor.Seq < last.Seq, err
}
