package cli

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// createRunner makes a runner of flags, and of what is asked beside them.
func (s *session) createRunner(ctx context.Context, c *client.Client, cmd *cobra.Command, f *runnerSetFlags, id string) error {
	missing := f.missing()
	if id == "" {
		missing = append([]string{"RUNNER-ID"}, missing...)
	}
	ask, err := s.asks(len(missing) == 0)
	if err != nil {
		return err
	}
	if !ask && len(missing) > 0 {
		return fault.Invalidf("USAGE", "a new runner needs %s, or RUNNER-ID and -f FILE", strings.Join(missing, ", ")).WithHint("At a terminal it is asked for.")
	}
	none := &runnerState{id: id, runner: &tree.Node{Kind: tree.Object}}
	next, err := f.apply(cmd, none)
	if err != nil {
		return err
	}
	if !ask {
		return s.sentRunner(s.postRunner(ctx, c, id, next.body(none)))
	}
	w := &runnerWizard{flags: f, cmd: cmd, from: none, next: next, asksID: id == ""}
	if err := w.look(ctx, c); err != nil {
		return err
	}
	return s.sentRunner(s.wizard(ctx, &wizardRun{ask: w.ask, words: w.words, send: func(ctx context.Context) (json.RawMessage, error) {
		return s.postRunner(ctx, c, w.next.id, w.next.body(w.from))
	}}))
}

// postRunner makes the runner of a document.
func (s *session) postRunner(ctx context.Context, c *client.Client, id string, document *tree.Node) (json.RawMessage, error) {
	body, err := wireRunner(ctx, c, document)
	if err != nil {
		return nil, err
	}
	request := append([]byte(`{"runnerId":`), tree.AppendString(nil, id)...)
	request = append(request, `,"runner":`...)
	request = append(body.AppendJSON(request), '}')
	return s.write(ctx, c, "POST", runnersPath, request)
}

// sentRunner shows the runner that an edit led to.
func (s *session) sentRunner(raw json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	s.warnings(raw)
	return s.emitRunners(raw, true, nil)
}

// editRunner changes single things of a runner, by flags and by what is asked beside them. What was read is what is changed.
func (s *session) editRunner(ctx context.Context, c *client.Client, cmd *cobra.Command, f *runnerSetFlags, old *tree.Node, ask bool, reason, etag string) error {
	from := runnerStateOf(old)
	next, err := f.apply(cmd, from)
	if err != nil {
		return err
	}
	w := &runnerWizard{flags: f, cmd: cmd, from: from, next: next, reason: reason}
	send := func(ctx context.Context) (json.RawMessage, error) {
		return s.patchRunner(ctx, c, w.from, w.next, w.reason, first(etag, textAt(w.from.runner, "etag")))
	}
	if !ask {
		return s.sentRunner(send(ctx))
	}
	if err := w.look(ctx, c); err != nil {
		return err
	}
	return s.sentRunner(s.wizard(ctx, &wizardRun{ask: w.ask, words: w.words, send: send, reload: func(ctx context.Context) error {
		raw, err := c.REST(ctx, "GET", client.Path(runnersPath+"/%s", from.id), nil)
		if err != nil {
			return err
		}
		now, err := answer(raw)
		if err != nil {
			return err
		}
		etag = ""
		return w.rebase(runnerStateOf(now))
	}}))
}

// body is the document of what differs from another state; of a part that differs, all of it.
func (st *runnerState) body(from *runnerState) *tree.Node {
	out := &tree.Node{Kind: tree.Object}
	for _, name := range []string{"display_name", "identity", "managed_spec"} {
		now, had := field(st.runner, name), field(from.runner, name)
		if now == nil {
			now = &tree.Node{Kind: tree.Null}
		}
		if now != had && (had != nil || now.Kind != tree.Null) {
			out = putAt(out, []string{name}, now)
		}
	}
	if list := st.list(); string(list.JSON()) != string(from.list().JSON()) {
		out = putAt(out, []string{"profile_bindings"}, list)
	}
	return out
}

// patchRunner sends what differs between two states of a runner.
func (s *session) patchRunner(ctx context.Context, c *client.Client, from, next *runnerState, reason, etag string) (json.RawMessage, error) {
	if next.words(from, false) == nil {
		return nil, fault.Invalidf("UNCHANGED", "nothing was changed")
	}
	body, err := wireRunner(ctx, c, next.body(from))
	if err != nil {
		return nil, err
	}
	return s.patch(ctx, c, client.Path(runnersPath+"/%s", from.id), "runner", body, reason, etag, runnerMask(body, from.runner, false))
}
