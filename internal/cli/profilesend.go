package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// createProfile makes a profile of flags, and of what is asked beside them.
func (s *session) createProfile(ctx context.Context, c *client.Client, cmd *cobra.Command, f *profileFlags, name string) error {
	ask, err := s.asks(name != "" && f.given(cmd))
	if err != nil {
		return err
	}
	empty := &profileState{name: name, labels: map[string]string{}, spec: &spec.Layer{}}
	if !ask {
		if name == "" || !f.given(cmd) && !s.asking.never {
			return fault.Invalidf("USAGE", "a new profile needs NAME and what it is to be, as in --set container_image=host, or -f FILE").
				WithHint("At a terminal it is asked for. --print-template prints an example of a file.")
		}
		next, err := f.apply(cmd, empty)
		if err != nil {
			return err
		}
		return s.sentProfile(s.postProfile(ctx, c, next))
	}
	w, err := newProfileWizard(cmd, f, empty, name)
	if err != nil {
		return err
	}
	names, err := profileNames(ctx, c)
	if err != nil && !fault.Is(err, fault.Denied) {
		return err
	}
	for _, n := range names {
		w.taken = append(w.taken, n)
	}
	if name != "" {
		if err := w.checkName(name); err != nil {
			return fault.Invalidf(fault.ReasonFieldInvalid, "%s", err.Error())
		}
	}
	return s.sentProfile(s.wizard(ctx, &wizardRun{
		ask: w.ask, words: w.words,
		send: func(ctx context.Context) (json.RawMessage, error) { return s.postProfile(ctx, c, w.next) },
		note: func() string {
			return fmt.Sprintf("\nNo runner binds it yet, so nothing is launched from it: berm runner bind RUNNER-ID %s --preview shows what its sandboxes would be there.", w.next.name)
		},
	}))
}

func (s *session) postProfile(ctx context.Context, c *client.Client, st *profileState) (json.RawMessage, error) {
	body, err := json.Marshal(map[string]any{"profileTemplate": st.wire("display_name", "description", "labels", "spec")})
	if err != nil {
		return nil, fault.Internalf(err, "encode the request")
	}
	return s.write(ctx, c, "POST", profilesPath, body)
}

// sentProfile shows the profile that an edit led to.
func (s *session) sentProfile(raw json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	s.warnings(raw)
	return s.emitProfiles(raw, true)
}

// editProfile changes single things of a profile, by flags and by what is asked beside them. What was read is what is changed.
func (s *session) editProfile(ctx context.Context, c *client.Client, cmd *cobra.Command, f *profileFlags, old json.RawMessage, ask bool, reason, etag string) error {
	from, err := profileStateOf(old)
	if err != nil {
		return err
	}
	if etag != "" {
		from.etag = etag
	}
	if !ask {
		next, err := f.apply(cmd, from)
		if err != nil {
			return err
		}
		return s.sentProfile(s.patchProfile(ctx, c, from, next, reason))
	}
	w, err := newProfileWizard(cmd, f, from, from.name)
	if err != nil {
		return err
	}
	w.reason = reason
	return s.sentProfile(s.wizard(ctx, &wizardRun{
		ask: w.ask, words: w.words,
		send: func(ctx context.Context) (json.RawMessage, error) {
			return s.patchProfile(ctx, c, w.from, w.next, w.reason)
		},
		reload: func(ctx context.Context) error {
			raw, err := getProfile(ctx, c, from.id)
			if err != nil {
				return err
			}
			return w.rebase(raw)
		},
	}))
}

// patchProfile sends what differs between two states of a profile.
func (s *session) patchProfile(ctx context.Context, c *client.Client, from, next *profileState, reason string) (json.RawMessage, error) {
	mask := next.changed(from)
	if len(mask) == 0 {
		return nil, fault.Invalidf("UNCHANGED", "nothing was changed")
	}
	text, err := json.Marshal(next.wire(mask...))
	if err != nil {
		return nil, fault.Internalf(err, "encode the request")
	}
	body, err := answer(text)
	if err != nil {
		return nil, err
	}
	return s.patch(ctx, c, profilesPath+"/"+from.id, "profileTemplate", body, reason, from.etag, strings.Join(mask, ","))
}
