package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// watchedKinds are what may be watched, by the word for it, in the order of a usage message.
var watchedKinds = []struct {
	word string
	kind bermv1.WatchKind
}{
	{"sandboxes", bermv1.WatchKind_WATCH_KIND_SANDBOX},
	{"profiles", bermv1.WatchKind_WATCH_KIND_PROFILE},
	{"runners", bermv1.WatchKind_WATCH_KIND_RUNNER},
	{"zones", bermv1.WatchKind_WATCH_KIND_ZONE},
}

func (s *session) watchCmd() *cobra.Command {
	req := &bermv1.WatchRequest{}
	var only []string
	c := s.outputFlag(&cobra.Command{
		Use:   "watch [sandboxes|profiles|runners|zones]...",
		Short: "Show what changes, as it changes",
		Long: `Show what changes, as it changes: a line for each state of a sandbox and each revision of what is configured, sandboxes alone
unless others are named. A stream that breaks off goes on where it was. -o json writes an object to a line, with the resumeToken that
--from goes on from, later or elsewhere.`,
		Example: `  berm watch --existing --tag ci
  berm watch profiles runners zones -o json`,
		Args: args(0, len(watchedKinds), "sandboxes, profiles, runners or zones"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			for _, word := range a {
				kind, err := watchedKind(word)
				if err != nil {
					return err
				}
				req.Kinds = append(req.Kinds, kind)
			}
			req.SandboxIds = only
			return s.watch(ctx, c, req, s.eventWriter())
		}),
	})
	f := c.Flags()
	f.BoolVar(&req.IncludeExisting, "existing", false, "begin with what is there")
	f.StringVar(&req.ResumeToken, "from", "", "go on behind the event with this resumeToken")
	f.StringArrayVar(&only, "sandbox", nil, "only this sandbox, repeatable")
	f.StringArrayVar(&req.Tags, "tag", nil, "only sandboxes with this tag, repeatable: all must be there")
	f.StringArrayVar(&req.ProfileNames, "profile", nil, "only sandboxes of this profile, repeatable")
	f.StringArrayVar(&req.RunnerIds, "runner", nil, "only sandboxes on this runner, repeatable")
	exclusive(c, "existing", "from")
	return c
}

func watchedKind(word string) (bermv1.WatchKind, error) {
	var known []string
	for _, k := range watchedKinds {
		if word == k.word || word+"s" == k.word || word+"es" == k.word {
			return k.kind, nil
		}
		known = append(known, k.word)
	}
	return 0, fault.Invalidf("USAGE", "%q cannot be watched", word).WithHint("Name any of %s.", strings.Join(known, ", "))
}

// watch shows events until the caller has enough, and takes a stream that broke off up again where it was.
func (s *session) watch(ctx context.Context, c *client.Client, req *bermv1.WatchRequest, show func(*bermv1.WatchResponse) error) error {
	for attempt, wait := 0, minResume; ; attempt++ {
		got, err := streamEvents(ctx, c, req, show)
		if got {
			attempt, wait = 0, minResume
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || !fault.Is(err, fault.Unavailable) || attempt >= resumeAttempts || req.GetResumeToken() == "" {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, maxResume)
	}
}

// streamEvents shows one stream, and notes in the request where the next one has to begin. It reports whether anything came.
func streamEvents(ctx context.Context, c *client.Client, req *bermv1.WatchRequest, show func(*bermv1.WatchResponse) error) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Watches().Watch(ctx, req)
	if err != nil {
		return false, client.FromRPC(err)
	}
	for whole := !req.GetIncludeExisting(); ; {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, client.FromRPC(err)
		}
		if err := show(e); errors.Is(err, errEnough) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		// What was there is told in no order that a token could say: until all of it came, it is asked for anew.
		if whole = whole || e.GetMark() != nil; whole {
			got, req.IncludeExisting, req.ResumeToken = true, false, e.GetResumeToken()
		}
	}
}

// errEnough ends a stream of events without an error.
var errEnough = errors.New("enough")

// eventWriter returns what writes events in the format asked for. For people a state is written once, though it may be told twice.
func (s *session) eventWriter() func(*bermv1.WatchResponse) error {
	shown := map[string]string{}
	return func(e *bermv1.WatchResponse) error {
		if s.output == "json" {
			raw, err := protojson.Marshal(e)
			if err != nil {
				return fault.Internalf(err, "cannot show the event")
			}
			_, err = fmt.Fprintf(s.Out, "%s\n", raw)
			return err
		}
		if s.output == "yaml" {
			fmt.Fprintln(s.Out, "---")
			return s.emit(e, nil)
		}
		name, state := eventWords(e)
		if name == "" || shown[name] == state {
			return nil
		}
		if shown[name] = state; e.GetSandbox().GetEndedAt() != nil || e.GetObject() != nil {
			delete(shown, name)
		}
		_, err := fmt.Fprintf(s.Out, "%-19s   %s   %s\n", clock(e.GetAt()), name, state)
		return err
	}
}

// eventWords returns what an event is about and what it says, "" for a mark.
func eventWords(e *bermv1.WatchResponse) (name, state string) {
	if sb := e.GetSandbox(); sb != nil {
		parts := []string{fmt.Sprintf("%-11s", strings.ToLower(sb.GetStatus())), sb.GetRunnerId(), sb.GetProfileName()}
		if sb.ExitCode != nil {
			parts = append(parts, fmt.Sprintf("exit %d", sb.GetExitCode()))
		}
		if sb.GetReason() != "" {
			parts = append(parts, clean(sb.GetReason()))
		}
		return "sandbox " + sb.GetSandboxId(), strings.Join(parts, "   ")
	}
	o := e.GetObject()
	if o == nil {
		return "", ""
	}
	state = fmt.Sprintf("revision %d by %s", o.GetRevision(), clean(o.GetBy()))
	if o.GetDeleted() {
		state = "deleted by " + clean(o.GetBy())
	}
	if o.GetReason() != "" {
		state += ": " + clean(o.GetReason())
	}
	return strings.ToLower(strings.TrimPrefix(o.GetKind().String(), "WATCH_KIND_")) + " " + clean(o.GetName()), state
}
