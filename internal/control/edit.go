package control

import (
	"context"
	"errors"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// errPreviewed ends the transaction of an edit that is only to be looked at.
var errPreviewed = errors.New("previewed")

type previewKey struct{}

// preview collects what an edit would write.
type preview struct {
	orgID   string
	written []*store.Object
	// done says that an edit came to its end: nothing written then means that nothing would change.
	done bool
}

// previewing returns a context in which edits of configuration write nothing: they are checked, and what they would write is
// noted.
func previewing(ctx context.Context, p *preview) context.Context {
	return context.WithValue(ctx, previewKey{}, p)
}

// isPreview reports whether an edit is only to be looked at, and so has no effects besides.
func isPreview(ctx context.Context) bool { return ctx.Value(previewKey{}) != nil }

// edit makes one change of the configuration of an organization. Every edit of zones, profiles and runners goes through here.
func (s *Service) edit(ctx context.Context, orgID string, fn func(store.Tx) error) error {
	p, ok := ctx.Value(previewKey{}).(*preview)
	if !ok {
		err := s.store.Update(ctx, fn)
		if err == nil {
			s.configs.invalidate(orgID)
		}
		return err
	}
	if p.done {
		return fault.Internalf(nil, "a preview of two edits")
	}
	err := s.store.Update(ctx, func(tx store.Tx) error {
		noted := &notingTx{Tx: tx}
		if err := fn(noted); err != nil {
			return err
		}
		p.orgID, p.written, p.done = orgID, noted.written, true
		return errPreviewed
	})
	if errors.Is(err, errPreviewed) {
		return nil
	}
	return err
}

// notingTx notes the objects that are written through it.
type notingTx struct {
	store.Tx
	written []*store.Object
}

func (t *notingTx) note(o *store.Object, err error) error {
	if err == nil {
		copied := *o // The store takes the revision of o back when the transaction does not commit.
		t.written = append(t.written, &copied)
	}
	return err
}

func (t *notingTx) Insert(ctx context.Context, o *store.Object) error {
	return t.note(o, t.Tx.Insert(ctx, o))
}
func (t *notingTx) Update(ctx context.Context, o *store.Object) error {
	return t.note(o, t.Tx.Update(ctx, o))
}
func (t *notingTx) Delete(ctx context.Context, o *store.Object) error {
	return t.note(o, t.Tx.Delete(ctx, o))
}
