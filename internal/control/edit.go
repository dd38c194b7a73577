package control

import (
	"context"
	"errors"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// errPreviewed ends the transaction of an edit that is only to be looked at.
var errPreviewed = errors.New("previewed")

type previewKey struct{}

// preview collects what an edit would write.
type preview struct {
	orgID   string
	written []*store.Object
	// tests is what the edit would do to policy tests: here they do not refuse it.
	tests   *testImpact
	changes []spec.Change
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

// edit is editWarned for an edit whose answer has no place for warnings: they go to the log.
func (s *Service) edit(ctx context.Context, orgID string, fn func(store.Tx) error) error {
	warnings, err := s.editWarned(ctx, orgID, fn)
	for _, w := range warnings {
		if !isPreview(ctx) {
			s.log.WarnContext(ctx, "an edit was made although a policy test fails or was not run", "test", w)
		}
	}
	return err
}

// editWarned makes one change of the configuration of an organization. Every edit of zones, profiles and runners goes through here,
// and past the policy tests that are attached to profiles. It returns what these warn of. One that is part of a batch is made in the
// transaction of the batch, and the tests look at all of that.
func (s *Service) editWarned(ctx context.Context, orgID string, fn func(store.Tx) error) (warnings []string, err error) {
	if b := batchOf(ctx); b != nil {
		return nil, fn(b.tx)
	}
	p, ok := ctx.Value(previewKey{}).(*preview)
	if ok {
		return s.previewEdit(ctx, orgID, p, fn)
	}
	err = s.store.Update(ctx, func(tx store.Tx) error {
		noted := &notingTx{Tx: tx}
		if err := fn(noted); err != nil {
			return err
		}
		tests, err := s.gateEdit(ctx, tx, orgID, noted.written, false)
		if err != nil {
			return err
		}
		warnings = tests.warnings()
		return tests.refusal()
	})
	if err != nil {
		return nil, err
	}
	s.configs.invalidate(orgID)
	return warnings, nil
}

// previewEdit notes what an edit would write. It returns which tests were not run; the others are shown with what becomes of them.
func (s *Service) previewEdit(ctx context.Context, orgID string, p *preview, fn func(store.Tx) error) ([]string, error) {
	if p.done {
		return nil, fault.Internalf(nil, "a preview of two edits")
	}
	err := s.store.Update(ctx, func(tx store.Tx) error {
		noted := &notingTx{Tx: tx}
		if err := fn(noted); err != nil {
			return err
		}
		tests, err := s.gateEdit(ctx, tx, orgID, noted.written, true)
		if err != nil {
			return err
		}
		p.tests = tests
		changes, err := changesOf(ctx, tx, noted.written)
		if err != nil {
			return err
		}
		p.orgID, p.written, p.changes, p.done = orgID, noted.written, changes, true
		return errPreviewed
	})
	if errors.Is(err, errPreviewed) {
		return p.tests.notRun, nil
	}
	return nil, err
}

// brokenByStart returns which policy tests the edits of a start break. It is no place to refuse them: a server that does not start helps
// nobody.
func (s *Service) brokenByStart(ctx context.Context, tx store.Tx, orgID string, written []*store.Object) ([]string, error) {
	tests, err := s.gateEdit(ctx, tx, orgID, written, false)
	if fault.HasReason(err, fault.ReasonLimitExceeded) {
		return []string{fault.From(err).Message}, nil
	}
	if err != nil {
		return nil, err
	}
	return tests.broken(), nil
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
