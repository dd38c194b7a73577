package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// channel is what gateways notify each other on.
	channel = "berm_changes"
	// notifyInterval is the least time between two notifications of one gateway.
	notifyInterval = 5 * time.Millisecond
	// The listener connects again after a failure, at first after the shorter of these.
	minRelisten, maxRelisten = 100 * time.Millisecond, 10 * time.Second
)

// background tells other gateways about changes and hears of theirs, until close. Both are hints.
func (e *postgresEngine) background() {
	defer close(e.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { e.listen(ctx) })
	both.Go(func() { e.notifyOthers(ctx) })
	<-e.closing
	cancel()
	both.Wait()
}

// notifyOthers sends a notification for all commits since the last one, outside of their transactions: a NOTIFY inside
// would make every commit wait for a lock that the whole server has one of.
func (e *postgresEngine) notifyOthers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.notify:
		}
		if _, err := e.db.ExecContext(ctx, `SELECT pg_notify($1, '')`, channel); err != nil && ctx.Err() == nil {
			e.cfg.log.WarnContext(ctx, "other gateways were not told of changes; they will look by themselves", "error", err, "after", postgresPoll)
		}
		if !pause(ctx, notifyInterval) {
			return
		}
	}
}

// listen keeps a connection of its own: LISTEN belongs to a connection, and those of the pool come and go.
func (e *postgresEngine) listen(ctx context.Context) {
	retry := minRelisten
	for {
		heard, err := e.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			retry = minRelisten
		}
		e.cfg.log.WarnContext(ctx, "the connection that hears of changes is lost; watchers look by themselves until it is back", "error", err, "retry", retry)
		if !pause(ctx, retry) {
			return
		}
		retry = min(2*retry, maxRelisten)
	}
}

// hear wakes the watchers at every notification, until the connection fails.
func (e *postgresEngine) hear(ctx context.Context) (connected bool, err error) {
	c, err := pgx.ConnectConfig(ctx, e.pgx)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(closing)
	}()
	if _, err := c.Exec(ctx, `LISTEN `+channel); err != nil {
		return false, err
	}
	for {
		e.cfg.wake() // also once at the beginning: what was notified before was not heard
		if _, err := c.WaitForNotification(ctx); err != nil {
			return true, err
		}
	}
}
