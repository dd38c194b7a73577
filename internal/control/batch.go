package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

type batchKey struct{}

// batch is several edits in one transaction. Each is the edit that it is alone, but for two things: whether the bindings beneath a zone
// or a profile can still be launched from is asked once for all of them, when all are made, since what comes between is nothing that a
// launch will ever see; and what follows an edit waits until the transaction has committed.
type batch struct {
	tx *notingTx
	// zones and profiles are what was edited, as it was before: zones by name, nil for a new one, profiles by UUID.
	zones    map[string]*core.Zone
	profiles map[string]*core.Profile
	after    []func()
}

func newBatch(tx store.Tx) *batch {
	return &batch{tx: &notingTx{Tx: tx}, zones: map[string]*core.Zone{}, profiles: map[string]*core.Profile{}}
}

// within returns a context in which edits are part of the batch.
func (b *batch) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, batchKey{}, b)
}

// batchOf returns the batch that an edit is part of, nil when it stands alone.
func batchOf(ctx context.Context) *batch {
	b, _ := ctx.Value(batchKey{}).(*batch)
	return b
}

// whenMade runs what follows an edit: once it has been made, and not when it is only looked at.
func whenMade(ctx context.Context, fn func()) {
	if b := batchOf(ctx); b != nil {
		b.after = append(b.after, fn)
	} else if !isPreview(ctx) {
		fn()
	}
}

func (b *batch) editedZone(name string, before *core.Zone) {
	if _, known := b.zones[name]; !known {
		b.zones[name] = before
	}
}

func (b *batch) editedProfile(before *core.Profile) {
	if _, known := b.profiles[before.ID]; !known {
		b.profiles[before.ID] = before
	}
}

// batchImpact is profileImpact and zoneImpact for all edits of a batch together.
func (s *Service) batchImpact(ctx context.Context, b *batch, orgID string) ([]string, error) {
	if len(b.zones)+len(b.profiles) == 0 {
		return nil, nil
	}
	return s.impact(ctx, b.tx, orgID, edit{
		what: counted(len(b.zones), "zone") + " and " + counted(len(b.profiles), "profile"),
		touches: func(r *core.Runner, bound core.Binding) bool {
			_, zone := b.zones[r.Zone]
			return zone || b.profiles[bound.ProfileID] != nil
		},
		zone: func(r *core.Runner, read *core.Zone) (before, after *core.Zone) {
			if was, edited := b.zones[r.Zone]; edited {
				return was, read
			}
			return read, read
		},
		profile: func(read *core.Profile) (before, after *core.Profile) {
			if was := b.profiles[read.ID]; was != nil {
				return was, read
			}
			return read, read
		},
	})
}
