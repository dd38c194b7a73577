package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) lsCmd() *cobra.Command {
	var all, outdated, follow, orphans bool
	older := time.Hour
	var tags, profiles, runners []string
	var status string
	c := s.outputFlag(&cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List sandboxes, newest first", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if outdated {
				return s.listOutdated(ctx, c, tags, profiles, runners)
			}
			if orphans {
				return s.listOrphans(ctx, c, older, tags, profiles, runners)
			}
			if follow {
				return s.watch(ctx, c, &bermv1.WatchRequest{IncludeExisting: true, Tags: tags, ProfileNames: profiles, RunnerIds: runners}, s.eventWriter())
			}
			req := &v1beta2pb.ListSandboxesRequest{IncludeStopped: all, Tags: tags, ProfileNames: profiles, RunnerIds: runners, PageSize: 1000}
			if status != "" {
				n, ok := v1beta2pb.SandboxStatus_value["SANDBOX_STATUS_"+strings.ToUpper(status)]
				if !ok {
					return fault.Invalidf("USAGE", "unknown status %q", status).WithHint("Use pending, creating, running, paused, terminating, completed or failed.")
				}
				req.Status = v1beta2pb.SandboxStatus(n)
			}
			var items []*v1beta2pb.SandboxInfo
			for len(items) <= maxListed {
				page, err := c.Gateway().List(ctx, req)
				if err != nil {
					return err
				}
				items = append(items, page.GetSandboxes()...)
				next := page.GetNextPageToken()
				if next == "" {
					return s.emitSandboxes(items)
				}
				if next == req.GetPageToken() {
					return fault.Internalf(nil, "the server gives the same page again and again")
				}
				req.PageToken = next
			}
			return tooLong()
		}),
	})
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those that have ended")
	f.BoolVarP(&follow, "watch", "w", false, "those that have not ended, and then what becomes of them and of new ones, as berm watch --existing")
	f.BoolVar(&outdated, "outdated", false, "only those whose launch would come to something else now, and what would differ")
	f.BoolVar(&orphans, "orphans", false, "only those whose owner seems to be gone, and why: the lease is not renewed; or there is none, and the token is gone, or there was no contact for --older")
	f.DurationVar(&older, "older", older, "how long without contact makes an orphan of a sandbox without a lease, with --orphans")
	f.StringArrayVar(&tags, "tag", nil, "only those with this tag, repeatable: all must be there")
	f.StringArrayVar(&profiles, "profile", nil, "only those of this profile, repeatable")
	f.StringArrayVar(&runners, "runner", nil, "only those on this runner, repeatable")
	f.StringVar(&status, "status", "", "only those with this status")
	exclusive(c, "outdated", "all", "status")
	exclusive(c, "watch", "all", "status", "outdated")
	exclusive(c, "orphans", "all", "status", "outdated", "watch")
	return c
}

func (s *session) emitSandboxes(items []*v1beta2pb.SandboxInfo) error {
	list := messages(items)
	return s.emit(list, func() table {
		t := table{head: []string{"SANDBOX", "STATUS", "RUNNER", "PROFILE", "STARTED"}, wide: []string{"EGRESS", "ADDRESS"}}
		for _, m := range items {
			t.rows = append(t.rows, []string{m.GetSandboxId(), shortStatus(m.GetSandboxStatus()), m.GetRunnerId(), m.GetProfileId(), clock(m.GetStartedAtTime()), m.GetAppliedEgressMode(), m.GetServiceAddress()})
		}
		return t
	})
}

func shortStatus(s v1beta2pb.SandboxStatus) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SANDBOX_STATUS_"))
}

func clock(t *timestamppb.Timestamp) string {
	if t == nil || (t.GetSeconds() == 0 && t.GetNanos() == 0) {
		return ""
	}
	return t.AsTime().Local().Format(time.DateTime)
}

func (s *session) getCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get SANDBOX", Short: "Show a sandbox, running or ended", Args: args(1, 1, "the id of a sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if s.output == "json" || s.output == "yaml" { // the published shape, for scripts
				m, err := c.Gateway().Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: a[0]})
				if err != nil {
					return err
				}
				return s.emit(m, nil)
			}
			b, err := c.Explain().GetSandbox(ctx, &bermv1.GetSandboxRequest{SandboxId: a[0]})
			if err != nil {
				return err
			}
			s.describe(b)
			return nil
		}),
	})
}

func (s *session) describe(b *bermv1.Sandbox) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.Out, "%-11s %s\n", name+":", clean(value))
		}
	}
	line("Sandbox", b.GetSandboxId())
	status := strings.ToLower(b.GetStatus())
	if b.GetReason() != "" {
		status += " (" + b.GetReason() + ")"
	}
	if b.GetObservation() == "UNKNOWN" {
		status += ", as last seen: the runner is out of contact"
	}
	line("Status", status)
	if b.ExitCode != nil {
		line("Exit code", strconv.Itoa(int(b.GetExitCode())))
	}
	line("Runner", b.GetRunnerId())
	line("Profile", fmt.Sprintf("%s, revision %d", b.GetProfileName(), b.GetProfileRevision()))
	line("Tags", strings.Join(b.GetTags(), ", "))
	line("Created", clock(b.GetCreatedAt())+" by "+b.GetCreatedBy())
	line("Started", clock(b.GetStartedAt()))
	line("Ended", clock(b.GetEndedAt()))
	line("Expires", clock(b.GetExpiresAt()))
	if u := b.GetUsage(); u != nil {
		line("Usage", fmt.Sprintf("%s CPU, %s memory, %d processes, %s on disk", cpus(u.GetCpuMillicores()), size(u.GetMemoryBytes()), u.GetPids(), size(u.GetDiskBytes())))
	}
	line("Isolation", b.GetIsolation())
	if v := b.GetService(); v != nil {
		line("Address", serviceText(v))
	}
	s.networkState(b.GetNetwork())
	s.timeline(b.GetTimeline())
}

// serviceText says where a sandbox is reached, and what stands in the way: "sandbox-1.example (public): 8080, 9090 at 30090".
func serviceText(v *bermv1.Service) string {
	out := v.GetAddress()
	if out == "" {
		out = "none yet"
	}
	var ports []string
	for _, p := range v.GetPorts() {
		text := strconv.Itoa(int(p.GetContainerPort()))
		if p.GetPort() != 0 && p.GetPort() != p.GetContainerPort() {
			text += " at " + strconv.Itoa(int(p.GetPort()))
		}
		if p.GetProtocol() != "TCP" {
			text += " " + p.GetProtocol()
		}
		ports = append(ports, text)
	}
	out += " (" + v.GetMode() + ")"
	if len(ports) > 0 {
		out += ": " + strings.Join(ports, ", ")
	}
	if v.GetProblem() != "" {
		out += "; " + v.GetProblem()
	}
	return out
}

func (s *session) timeline(events []*bermv1.TimelineEvent) {
	if len(events) == 0 {
		return
	}
	fmt.Fprintln(s.Out, "\nTimeline:")
	start := events[0].GetAt().AsTime()
	t := table{head: []string{"", "AT", "AFTER", "EVENT", ""}}
	for _, e := range events {
		after := e.GetAt().AsTime().Sub(start).Round(100 * time.Microsecond)
		text := e.GetMessage()
		for _, k := range sortedKeys(e.GetAttributes()) {
			if k == "isolation" { // shown above, in full
				continue
			}
			text += " " + k + "=" + e.GetAttributes()[k]
		}
		t.rows = append(t.rows, []string{"", e.GetAt().AsTime().Local().Format("15:04:05.000"), after.String(), e.GetName(), strings.TrimSpace(text)})
	}
	s.table(t)
}

func (s *session) stopCmd() *cobra.Command {
	var grace time.Duration
	c := s.outputFlag(&cobra.Command{
		Use: "stop SANDBOX...", Short: "Stop sandboxes", Args: args(1, -1, "the id of at least one sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			var seconds int32
			if grace != 0 {
				var err error
				if seconds, err = wholeSeconds("--grace", grace); err != nil {
					return err
				}
			}
			return s.each(a, func(id string) error {
				resp, err := c.Gateway().Stop(ctx, &v1beta2pb.StopSandboxRequest{SandboxId: id, GracefulShutdownSeconds: seconds})
				if err == nil && !resp.GetSuccess() {
					err = fault.Preconditionf("STOP_FAILED", "%s", resp.GetErrorMessage())
				}
				return err
			})
		}),
	})
	c.Flags().DurationVar(&grace, "grace", 10*time.Second, "time between TERM and KILL, in whole seconds")
	// A bare number is seconds, as in the API.
	c.Flags().Lookup("grace").Value = &seconds{&grace}
	return c
}

func (s *session) pauseCmd() *cobra.Command {
	var toDisk bool
	c := s.outputFlag(&cobra.Command{
		Use: "pause SANDBOX...", Short: "Freeze sandboxes: memory, files and commands stay, nothing runs", Args: args(1, -1, "the id of at least one sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			return s.each(a, func(id string) error {
				if toDisk {
					_, err := c.Checkpoints().SuspendSandbox(ctx, &bermv1.SuspendSandboxRequest{SandboxId: id})
					return err
				}
				resp, err := c.Gateway().Pause(ctx, &v1beta2pb.PauseSandboxRequest{SandboxId: id})
				if err == nil && !resp.GetSuccess() {
					err = fault.Preconditionf("PAUSE_FAILED", "%s", resp.GetErrorMessage())
				}
				return err
			})
		}),
	})
	c.Flags().BoolVar(&toDisk, "to-disk", false, "save them on disk and use no memory; commands that run are ended (needs a runtime that can: see runner describe)")
	return c
}

func (s *session) resumeCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "resume SANDBOX...", Short: "Let paused sandboxes go on", Args: args(1, -1, "the id of at least one sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			return s.each(a, func(id string) error {
				resp, err := c.Gateway().Resume(ctx, &v1beta2pb.ResumeSandboxRequest{SandboxId: id})
				if err == nil && !resp.GetSuccess() {
					err = fault.Preconditionf("RESUME_FAILED", "%s", resp.GetErrorMessage())
				}
				return err
			})
		}),
	})
}

func (s *session) rmCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "rm SANDBOX...", Aliases: []string{"delete"}, Short: "Stop sandboxes at once and remove their remains", Args: args(1, -1, "the id of at least one sandbox"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			return s.each(a, func(id string) error {
				resp, err := c.Gateway().Delete(ctx, &v1beta2pb.DeleteSandboxRequest{SandboxId: id})
				if err == nil && !resp.GetSuccess() {
					err = fault.Preconditionf("DELETE_FAILED", "%s", resp.GetErrorMessage())
				}
				return err
			})
		}),
	})
}

// each does fn for every id, prints the ids that went well, and returns the last error after all were tried.
func (s *session) each(ids []string, fn func(string) error) error {
	var last error
	text := s.output != "json" && s.output != "yaml"
	went := []map[string]string{}
	for _, id := range ids {
		err := fn(id)
		if err == nil {
			went = append(went, map[string]string{"sandboxId": id})
			if text {
				fmt.Fprintln(s.Out, id)
			}
			continue
		}
		if last != nil {
			s.print(last)
		}
		last = err
	}
	if !text {
		if err := s.emit(went, nil); err != nil {
			return err
		}
	}
	return last
}

// wholeSeconds returns a duration as the seconds of the API. One that is no whole number of them, or beyond them, is refused: rounded
// or cut it would be another one than was asked for.
func wholeSeconds(flag string, d time.Duration) (int32, error) {
	if d < time.Second || d%time.Second != 0 || d/time.Second > math.MaxInt32 {
		return 0, fault.Invalidf("USAGE", "%s %s is not a whole number of seconds from 1 to %d", flag, d, math.MaxInt32)
	}
	return int32(d / time.Second), nil
}

// seconds is a duration flag that also takes a bare number.
type seconds struct{ d *time.Duration }

func (v *seconds) String() string {
	if v.d == nil {
		return ""
	}
	return v.d.String()
}
func (v *seconds) Type() string { return "duration" }
func (v *seconds) Set(text string) error {
	if n, err := strconv.Atoi(text); err == nil {
		text = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("must not be negative")
	}
	if err != nil {
		return err
	}
	*v.d = d
	return nil
}
