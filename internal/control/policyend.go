package control

import (
	"context"
	"fmt"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// refuseTested refuses an edit after which tests that are enforced hold nothing any more, because their profile goes or is bound nowhere: an
// edit ends them only if it says so.
func refuseTested(ctx context.Context, r store.Reader, profile *core.Profile) error {
	t, err := testsOf(ctx, r, profile)
	if err != nil || t == nil || t.Removed || t.Mode != EnforceTests {
		return err
	}
	e := fault.Preconditionf(fault.ReasonTestsAttached, "profile %s has %s, which would hold nothing any more", profile.DisplayName, counted(len(t.Tests), "enforced policy test"))
	for i := range t.Tests[:min(len(t.Tests), maxListed)] {
		e.WithField(fmt.Sprintf("policy_tests[%s]", t.Tests[i].Name), "is enforced")
	}
	return e.WithHint("if another profile takes its place, attach them there: berm profile tests get %[1]s >FILE, berm profile tests put OTHER -f FILE; then end them: berm profile tests delete %[1]s", profile.DisplayName)
}

// deleteTests deletes the tests of a profile together with it.
func (s *Service) deleteTests(ctx context.Context, tx store.Tx, p core.Principal, profile *core.Profile, reason string) error {
	if err := refuseTested(ctx, tx, profile); err != nil {
		return err
	}
	o, err := tx.ObjectByName(ctx, store.KindTests, profile.OrgID, profile.DisplayName)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	o.UpdatedAt, o.UpdatedBy, o.Reason = s.now(), p.Actor, reason
	return tx.Delete(ctx, o)
}
