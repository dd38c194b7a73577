package control

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// maxListed is how many of a list of offenders an error names.
const maxListed = 20

// meta returns that of a new object.
func (s *Service) meta(p core.Principal, reason string) core.Meta {
	now := s.now()
	return core.Meta{ID: s.newID(), OrgID: p.OrgID, CreatedAt: now, UpdatedAt: now, UpdatedBy: p.Actor, Reason: reason}
}

// revise says who makes the next revision. The store counts it.
func (s *Service) revise(m *core.Meta, p core.Principal, reason string) {
	m.UpdatedAt, m.UpdatedBy, m.Reason = s.now(), p.Actor, reason
}

// readObject reads by UUID, or by name when ref has not the shape of one: names never have.
func readObject(ctx context.Context, r store.Reader, kind store.Kind, orgID, ref string) (*store.Object, error) {
	if spec.IsUUIDShaped(ref) {
		return r.Object(ctx, kind, orgID, ref)
	}
	return r.ObjectByName(ctx, kind, orgID, ref)
}

// eachObject calls fn for every live object of a kind.
func eachObject(ctx context.Context, r store.Reader, kind store.Kind, orgID string, fn func(*store.Object) error) error {
	for page := (store.Page{Size: store.MaxPage}); ; {
		objects, after, err := r.Objects(ctx, kind, orgID, page)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := fn(o); err != nil {
				return err
			}
		}
		if after == "" {
			return nil
		}
		page.After = after
	}
}

func eachRunner(ctx context.Context, r store.Reader, orgID string, fn func(*core.Runner) error) error {
	return eachObject(ctx, r, store.KindRunner, orgID, func(o *store.Object) error {
		runner, err := runnerFrom(o)
		if err != nil {
			return err
		}
		return fn(runner)
	})
}

// checkText adds a violation for a text that is too long, or that not every store keeps.
func checkText(e *fault.Error, path, text string, most int) {
	switch {
	case len(text) > most:
		e.WithField(path, "has %d bytes, the limit is %d", len(text), most)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		e.WithField(path, "is not valid UTF-8, or contains a NUL")
	}
}

// orNil returns e if it has violations.
func orNil(e *fault.Error) error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

func immutable(path, is, given string) *fault.Error {
	return fault.Invalidf(fault.ReasonFieldImmutable, "%s cannot be changed", path).
		WithField(path, "is %q and cannot become %.80q", is, given)
}

func unknownPath(path string) error {
	return fault.Invalidf(fault.ReasonMaskInvalid, "the mask names what cannot be updated").
		WithField("update_mask", "%.80q is no path that can be updated", path)
}

// counted returns "1 runner", "2 runners".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "x") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
