package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/deploy"
	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// What --format takes.
const (
	joinCommand  = "command"
	joinHelm     = "helm"
	joinManifest = "manifest"
)

// joining is what `berm runner join` can be told.
type joining struct {
	format, image, gateway, network string
	selfUpdate                      bool
	expires                         time.Duration
}

func (s *session) runnerJoinCmd() *cobra.Command {
	var in joining
	c := s.outputFlag(&cobra.Command{
		Use: "join RUNNER-ID", Aliases: []string{"token"}, Short: "Make a token that lets a machine or a cluster be a runner, and print the command for it",
		Long: `Make a token, and print what makes a machine or a cluster the runner: with --format command the command for a machine, with
--format helm that for a cluster, with --format manifest the objects for kubectl apply -f -. All of them have the deployment overrides
of the runner. A token is good for one use.`,
		Args: args(1, 1, "the id of a runner"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			to, err := in.check(s.output, c)
			if err != nil {
				return err
			}
			req := &bermv1.CreateEnrolmentRequest{Runner: a[0]}
			if in.expires != 0 {
				seconds, err := wholeSeconds("--expires-in", in.expires)
				if err != nil {
					return err
				}
				req.ExpiresInSeconds = proto.Int32(seconds)
			}
			resp, err := c.Enrolments().CreateEnrolment(ctx, req)
			if err != nil {
				return err
			}
			if s.output != "table" {
				return s.emit(resp, nil)
			}
			to.Token = resp.GetToken()
			if to.Wanted, err = wantedOf(ctx, c, a[0]); err != nil {
				return err
			}
			return s.printJoin(in.format, to, resp)
		}),
	})
	f := c.Flags()
	f.DurationVar(&in.expires, "expires-in", 0, "time until the token expires, at most a day (default 1h)")
	f.StringVar(&in.format, "format", joinCommand, "what is printed: "+strings.Join([]string{joinCommand, joinHelm, joinManifest}, ", "))
	f.StringVar(&in.image, "image", "", "Berm's image, as the nodes of the cluster pull it; for --format helm and manifest")
	f.StringVar(&in.network, "kube-network", "", "what --kube-network of the runner is to be; for --format helm and manifest (default "+networkRefused+")")
	f.BoolVar(&in.selfUpdate, "self-update", false, "let the runner change its own deployment as the server wants it, with images of the repository of --image; for --format helm and manifest")
	f.StringVar(&in.gateway, "gateway", "", "https://HOST:PORT of the server, as the runner reaches it (default: as it is reached from here)")
	return c
}

// check finds what is wrong before a token is made, and says what the runner is told.
func (j *joining) check(output string, c *client.Client) (deploy.Runner, error) {
	to := deploy.Runner{Image: j.image, Gateway: first(j.gateway, c.URL()), Network: j.network, SelfUpdate: j.selfUpdate}
	switch {
	case j.format != joinCommand && j.format != joinHelm && j.format != joinManifest:
		return to, fault.Invalidf("USAGE", "unknown format %q", j.format).WithHint("Use %s, %s or %s.", joinCommand, joinHelm, joinManifest)
	case j.format == joinCommand && (j.image+j.network != "" || j.selfUpdate):
		return to, fault.Invalidf("USAGE", "--image, --kube-network and --self-update go with --format %s and %s", joinHelm, joinManifest)
	case j.format == joinCommand:
		return to, nil
	case output != "table":
		return to, fault.Invalidf("USAGE", "--format %s and -o %s exclude each other", j.format, output)
	}
	if _, err := (&kubeFlags{network: first(j.network, networkRefused)}).read(); err != nil {
		return to, err
	}
	if err := to.Check(); err != nil || c.CAFile() == "" {
		return to, err
	}
	raw, err := os.ReadFile(c.CAFile())
	if err != nil {
		return to, unreadable(c.CAFile(), err)
	}
	to.CA = string(raw)
	to.CAFile, err = filepath.Abs(c.CAFile())
	return to, err
}

// printJoin prints what is to be run on standard output, and what a person wants to know on the other.
func (s *session) printJoin(format string, to deploy.Runner, resp *bermv1.CreateEnrolmentResponse) error {
	where := "as root on the other machine"
	switch format {
	case joinCommand:
		env, args := deploy.Environment(to.Wanted)
		fmt.Fprintln(s.Out, strings.Join(slices.Concat(env, []string{"berm runner --gateway", to.Gateway, "--token", to.Token}, args), " "))
	case joinHelm:
		where = "in a clone of Berm's repository, with the kubeconfig of the cluster"
		fmt.Fprintln(s.Out, to.Helm())
	case joinManifest:
		where = "through kubectl apply -f -, with the kubeconfig of the cluster"
		text, err := to.Manifest()
		if err != nil {
			return err
		}
		fmt.Fprint(s.Out, text)
	}
	fmt.Fprintf(s.Err, "Run it %s. The token is good for one use, until %s.\n", where, clock(resp.GetExpiresAt()))
	if strings.HasPrefix(to.Gateway, "http://") {
		fmt.Fprintln(s.Err, "The server speaks plain text: another machine connects to https:// only, unless it is told --plain-text.")
	}
	return nil
}
