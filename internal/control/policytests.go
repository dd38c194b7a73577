package control

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/store"
)

// TestMode is what tests that are attached to a profile do to an edit that breaks them.
type TestMode string

// The modes.
const (
	// EnforceTests refuses the edit, WarnTests says so in its answer.
	EnforceTests TestMode = "enforce"
	WarnTests    TestMode = "warn"
)

// PolicyTests are the tests that are attached to a profile. They are an object beside it, with revisions of their own: the profile in
// its published form knows nothing of them.
type PolicyTests struct {
	core.Meta
	ProfileID, ProfileName string
	Mode                   TestMode
	// File is the text as it was written, Tests what it means.
	File  string
	Tests []policy.Test
	// Removed: no tests are attached. The object stays, so that its history does.
	Removed bool
}

// testsDocument is the body of the object. Its name is that of the profile.
type testsDocument struct {
	Version   int             `json:"version"`
	ProfileID string          `json:"profileId"`
	Mode      TestMode        `json:"mode"`
	File      string          `json:"file"`
	Tests     json.RawMessage `json:"tests"`
	Removed   bool            `json:"removed,omitempty"`
}

func testsObject(t *PolicyTests) (*store.Object, error) {
	compiled, err := policy.Marshal(t.Tests)
	if err != nil {
		return nil, err
	}
	return object(store.KindTests, t.Meta, t.ProfileName, "", testsDocument{
		Version: documentVersion, ProfileID: t.ProfileID, Mode: t.Mode, File: t.File, Tests: compiled, Removed: t.Removed,
	})
}

func testsFrom(o *store.Object) (*PolicyTests, error) {
	var d testsDocument
	if err := decode(o, &d, func() int { return d.Version }); err != nil {
		return nil, err
	}
	tests, err := policy.Unmarshal(d.Tests)
	if err != nil {
		return nil, fault.Internalf(err, "tests of profile %s revision %d cannot be read", o.Name, o.Revision)
	}
	return &PolicyTests{
		Meta: metaOf(o), ProfileID: d.ProfileID, ProfileName: o.Name, Mode: d.Mode, File: d.File, Tests: tests, Removed: d.Removed,
	}, nil
}

// PolicyTestsInput is what a caller says about the tests of a profile.
type PolicyTestsInput struct {
	// File and Tests are the text and what it means; without a text those that are attached stay.
	File  string
	Tests []policy.Test
	// Mode is empty for the one that is there, EnforceTests for the first tests.
	Mode TestMode
	EditState
}

// PutPolicyTests attaches tests to a profile, in place of those that are. Tests that fail as things are may be attached: they are
// enforced from when they pass, so that a test can be there before the edit that it asks for. The second result says which do. The same
// tests again write nothing.
func (s *Service) PutPolicyTests(ctx context.Context, p core.Principal, ref string, in PolicyTestsInput) (*PolicyTests, []string, error) {
	if err := s.allow(ctx, p, "PutPolicyTests", audit.Target{Kind: string(store.KindTests), Ref: ref, Reason: in.Reason}); err != nil {
		return nil, nil, err
	}
	if err := checkTests(in); err != nil {
		return nil, nil, err
	}
	var (
		out     *PolicyTests
		failing []string
	)
	err := s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		profile, current, err := readTests(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		next, err := s.nextTests(p, profile, current, in)
		if err != nil {
			return err
		}
		if out, err = writeTests(ctx, tx, current, next); err != nil {
			return err
		}
		failing, err = s.failingNow(ctx, tx, out)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return out, failing, nil
}

func checkTests(in PolicyTestsInput) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid policy tests")
	if in.Mode != "" && in.Mode != EnforceTests && in.Mode != WarnTests {
		e.WithField("mode", "is %.40q, must be %s or %s", in.Mode, EnforceTests, WarnTests)
	}
	checkText(e, "file", in.File, policy.MaxText)
	checkText(e, "reason", in.Reason, MaxReason)
	return orNil(e)
}

// nextTests returns the state that an input leads to, the current one itself when nothing changes.
func (s *Service) nextTests(p core.Principal, profile *core.Profile, current *PolicyTests, in PolicyTestsInput) (*PolicyTests, error) {
	next := &PolicyTests{Meta: s.meta(p, in.Reason), ProfileID: profile.ID, ProfileName: profile.DisplayName}
	if current != nil {
		if err := checkEtag(in.Etag, "the tests of profile "+profile.DisplayName, current.Meta); err != nil {
			return nil, err
		}
		*next = *current
		s.revise(&next.Meta, p, in.Reason)
	} else if in.Etag != "" {
		return nil, fault.New(fault.Conflict, fault.ReasonEtagMismatch, "profile %s has no tests any more", profile.DisplayName)
	}
	switch {
	case in.File != "":
		next.File, next.Tests = in.File, in.Tests
	case current == nil || current.Removed:
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid policy tests").WithField("file", "must be given: profile %s has no tests yet", profile.DisplayName)
	}
	if next.Mode = cmp.Or(in.Mode, next.Mode); next.Removed || next.Mode == "" {
		next.Mode, next.Removed = cmp.Or(in.Mode, EnforceTests), false
	}
	if current != nil && !current.Removed && current.Mode == next.Mode && current.File == next.File {
		return current, nil
	}
	return next, nil
}

// writeTests writes the next state, unless it is the current one.
func writeTests(ctx context.Context, tx store.Tx, current, next *PolicyTests) (*PolicyTests, error) {
	if next == current {
		return current, nil
	}
	o, err := testsObject(next)
	if err != nil {
		return nil, err
	}
	if current == nil {
		err = tx.Insert(ctx, o)
	} else {
		err = tx.Update(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return testsFrom(o)
}

// GetPolicyTests returns the tests of a profile, or an earlier state of them.
func (s *Service) GetPolicyTests(ctx context.Context, p core.Principal, ref string, revision int32) (*PolicyTests, error) {
	if err := s.allow(ctx, p, "GetPolicyTests"); err != nil {
		return nil, err
	}
	if revision < 0 {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid request").WithField("revision", "is %d; they count from 1", revision)
	}
	var out *PolicyTests
	err := s.store.View(ctx, func(r store.Reader) error {
		profile, current, err := readTests(ctx, r, p.OrgID, ref)
		if err != nil {
			return err
		}
		if current == nil || current.Removed && revision == 0 {
			return noTests(profile)
		}
		if out = current; revision == 0 || revision == current.Revision {
			return nil
		}
		o, err := stateAt(ctx, r, store.KindTests, p.OrgID, current.ID, revision)
		if err != nil {
			return err
		}
		out, err = testsFrom(o)
		return err
	})
	return out, err
}

// DeletePolicyTests detaches the tests of a profile, as one more revision of them.
func (s *Service) DeletePolicyTests(ctx context.Context, p core.Principal, ref string, st EditState) error {
	if err := s.allow(ctx, p, "DeletePolicyTests", audit.Target{Kind: string(store.KindTests), Ref: ref, Reason: st.Reason}); err != nil {
		return err
	}
	return s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		profile, current, err := readTests(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		if current == nil || current.Removed {
			return noTests(profile)
		}
		if err := checkEtag(st.Etag, "the tests of profile "+profile.DisplayName, current.Meta); err != nil {
			return err
		}
		next := *current
		next.File, next.Tests, next.Removed = "", nil, true
		s.revise(&next.Meta, p, st.Reason)
		_, err = writeTests(ctx, tx, current, &next)
		return err
	})
}

// PolicyTestRevisions lists the states of the tests of a profile, newest first.
func (s *Service) PolicyTestRevisions(ctx context.Context, p core.Principal, ref string, page Page) ([]*PolicyTests, string, error) {
	if err := s.allow(ctx, p, "PolicyTestRevisions"); err != nil {
		return nil, "", err
	}
	var current *PolicyTests
	err := s.store.View(ctx, func(r store.Reader) error {
		profile, found, err := readTests(ctx, r, p.OrgID, ref)
		if err == nil && found == nil {
			err = noTests(profile)
		}
		current = found
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return revisionsOf(ctx, s, p, store.KindTests, current.ID, page, testsFrom)
}

// readTests returns a profile and its tests, nil when it never had any.
func readTests(ctx context.Context, r store.Reader, orgID, ref string) (*core.Profile, *PolicyTests, error) {
	profile, err := readProfile(ctx, r, orgID, ref)
	if err != nil {
		return nil, nil, err
	}
	tests, err := testsOf(ctx, r, profile)
	return profile, tests, err
}

func testsOf(ctx context.Context, r store.Reader, profile *core.Profile) (*PolicyTests, error) {
	o, err := r.ObjectByName(ctx, store.KindTests, profile.OrgID, profile.DisplayName)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return testsFrom(o)
}

func noTests(profile *core.Profile) error {
	return fault.NotFoundf(fault.ReasonTestsNotFound, "profile %s has no policy tests", profile.DisplayName).
		WithHint("attach some: berm profile tests put %s -f FILE", profile.DisplayName)
}
