package control

import (
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// What the store does is audited in the transaction that does it. Here are the rest: what reaches out of the store, and attempts that
// were refused. Nobody waits for those rows: they are written many at a time, soon after.
const (
	// maxAuditQueue is how many rows wait to be written, maxAuditBatch how many one transaction writes.
	maxAuditQueue = 4096
	maxAuditBatch = 256
	// RefusalWindow is the time in which at most MaxRefusals refused attempts of an actor, and MaxChainRefusals of a chain, get rows of
	// their own. The rest are counted, in one row for each actor.
	RefusalWindow    = time.Minute
	MaxRefusals      = 60
	MaxChainRefusals = 600
	// lastAudits bounds the writing of what is left at the end.
	lastAudits = 5 * time.Second
	// callKind is the kind of what is refused before a use case is reached: the name is that of the call.
	callKind = "call"
)

type auditRow struct {
	chain string
	row   audit.Row
}

// refuser is whose refused attempts are counted together; the actor of a whole chain is "*".
type refuser struct{ chain, actor string }

// refusals counts those of the current window.
type refusals struct{ told, omitted int64 }

// auditQueue holds rows that are not written yet.
type auditQueue struct {
	// turn is taken by whoever writes rows, so that one who wants all to be written waits for those on their way.
	turn    chan struct{}
	mu      sync.Mutex
	rows    []auditRow
	running bool
	// refused is of the window that ends by itself, started by the first attempt in it.
	refused map[refuser]*refusals
	// lost counts rows that found the queue full, by chain.
	lost map[string]int64
}

// AuditCall audits the end of a call: what it did beyond the store, or that it was refused. name is what was called, for a caller who did
// not say who they are.
func (s *Service) AuditCall(c *audit.Call, name string, err error) {
	method := c.Method()
	switch {
	case method == "" && fault.Is(err, fault.Unauthenticated):
		_, row := c.Failure(err)
		row.Kind, row.Name = callKind, withoutTokens(name)
		s.refused(audit.Installation, row)
	case !mutates(method), c.Told():
	case err != nil:
		chain, row := c.Failure(err)
		s.refused(chain, row)
	case reachesOut(method):
		s.did(c)
	}
}

// did audits what a use case did beyond the store.
func (s *Service) did(c *audit.Call) {
	c.Tell()
	chain, row := c.Success()
	row.At = s.now()
	s.audits.put(auditRow{chain, *row}, s.writeAuditsSoon)
}

// refused audits an attempt, or counts it where there were many.
func (s *Service) refused(chain string, row *audit.Row) {
	row.At = s.now()
	q := &s.audits
	q.mu.Lock()
	first := q.refused == nil
	if first {
		q.refused = map[refuser]*refusals{}
	}
	tell := q.count(refuser{chain, row.Actor}, refuser{chain, "*"})
	q.mu.Unlock()
	if first {
		s.tasks.run(func(ctx context.Context) {
			sleep(ctx, RefusalWindow)
			s.endRefusals()
		})
	}
	if tell {
		s.audits.put(auditRow{chain, *row}, s.writeAuditsSoon)
	}
}

// count counts an attempt and reports whether it gets a row.
func (q *auditQueue) count(who, all refuser) bool {
	for _, r := range []refuser{who, all} {
		if q.refused[r] == nil {
			q.refused[r] = &refusals{}
		}
	}
	if q.refused[who].told >= MaxRefusals || q.refused[all].told >= MaxChainRefusals {
		q.refused[who].omitted++
		return false
	}
	q.refused[who].told++
	q.refused[all].told++
	return true
}

// endRefusals ends a window: a row for each actor says how many attempts have none.
func (s *Service) endRefusals() {
	q := &s.audits
	q.mu.Lock()
	window := q.refused
	q.refused = nil
	q.mu.Unlock()
	for who, n := range window {
		if n.omitted > 0 {
			s.audits.put(auditRow{who.chain, audit.Row{At: s.now(), Actor: who.actor, Outcome: audit.Omitted, Count: n.omitted}}, s.writeAuditsSoon)
		}
	}
}

// put adds a row and starts a writer where none is at work. A row for which there is no room, of whatever was done, is counted as lost.
func (q *auditQueue) put(r auditRow, start func()) {
	q.mu.Lock()
	if len(q.rows) >= maxAuditQueue {
		if q.lost == nil {
			q.lost = map[string]int64{}
		}
		q.lost[r.chain]++
		q.mu.Unlock()
		return
	}
	q.rows = append(q.rows, r)
	idle := !q.running
	q.running = true
	q.mu.Unlock()
	if idle {
		start()
	}
}

// take removes a batch. An empty one ends the writer.
func (q *auditQueue) take(now time.Time) []auditRow {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.rows), maxAuditBatch)
	batch := append([]auditRow(nil), q.rows[:n]...)
	q.rows = append(q.rows[:0], q.rows[n:]...)
	for chain, lost := range q.lost {
		batch = append(batch, auditRow{chain, audit.Row{At: now, Outcome: audit.Lost, Count: lost}})
	}
	q.lost = nil
	q.running = len(batch) > 0
	return batch
}

func (s *Service) writeAuditsSoon() {
	// Where everything has ended, Close writes what is left.
	s.tasks.run(func(ctx context.Context) {
		for retry := minStatusRetry; ; retry = min(2*retry, maxStatusRetry) {
			err := s.writeAudits(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			s.log.ErrorContext(ctx, "the audit could not be written, trying again", "error", err, "retry", retry)
			if !sleep(ctx, retry) {
				return
			}
		}
	})
}

// writeAudits writes what waits.
func (s *Service) writeAudits(ctx context.Context) error {
	select {
	case s.audits.turn <- struct{}{}:
		defer func() { <-s.audits.turn }()
	case <-ctx.Done():
		return fault.New(fault.Canceled, fault.ReasonStoreUnavailable, "the audit was not written in time").WithCause(ctx.Err())
	}
	for batch := s.audits.take(s.now()); len(batch) > 0; batch = s.audits.take(s.now()) {
		err := s.store.Update(ctx, func(tx store.Tx) error {
			for _, r := range batch {
				if err := tx.Audit(ctx, r.chain, r.row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			s.audits.giveBack(batch)
			return err
		}
	}
	return nil
}

func (q *auditQueue) giveBack(batch []auditRow) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rows = append(batch, q.rows...)
}

// closeAudits writes what is left when everything else has ended.
func (s *Service) closeAudits() {
	s.endRefusals()
	ctx, cancel := context.WithTimeout(context.Background(), lastAudits)
	defer cancel()
	if err := s.writeAudits(ctx); err != nil {
		s.log.ErrorContext(ctx, "the last rows of the audit are not written", "error", err)
	}
}
