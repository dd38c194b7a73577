package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/backend/kube/selfupdate"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/core/spec"
)

const (
	// runnerTokenVar names the variable with an enrolment token, which other users of the machine do not see.
	runnerTokenVar = "BERM_RUNNER_TOKEN"
	// maxTokenFile is the largest file of a token, in bytes.
	maxTokenFile = 4 << 10
)

// runnerProcess makes `berm runner --gateway URL` a process that is a runner, beside the commands about runners.
func (s *session) runnerProcess(c *cobra.Command) *cobra.Command {
	var cfg app.RunnerConfig
	var machine machineFlags
	var cluster kubeFlags
	var logs logFlags
	var tokenFile, guardrails, kubeconfig, deployment string
	var checkOnly bool
	ofMachine, ofKube := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	var failpoints bool
	help := c.RunE
	c.Long = `With --gateway this machine becomes a runner of that server: it connects to the server, which needs no way to this machine, and runs
sandboxes here, or with --backend kube as pods of a Kubernetes cluster. berm runner join NAME makes the token for the first start; later
starts need none.

Without --gateway: the commands about runners.`
	c.RunE = func(cmd *cobra.Command, a []string) (err error) {
		if failpoints {
			names, err := app.RunnerFailpoints()
			fmt.Fprintln(s.Out, strings.Join(names, "\n"))
			return err
		}
		if cfg.Gateway.URL == "" {
			if n := cmd.Flags().NFlag(); n > 0 {
				return fault.Invalidf("USAGE", "name the server with --gateway URL")
			}
			return help(cmd, a)
		}
		if err := overriddenArgs(cmd.Flags(), s.Getenv(rollout.ArgsVar)); err != nil {
			return err
		}
		if cfg.DataDir == "" {
			cfg.DataDir = filepath.Join(config.StateDir(s.Getenv), "runner")
		}
		if err := othersFlags(cfg.Backend, ofMachine, ofKube); err != nil {
			return err
		}
		if err := machine.read(s, &cfg.Config); err != nil {
			return err
		}
		if cfg.Kube, err = cluster.read(); err != nil {
			return err
		}
		cfg.Cluster.Kubeconfig, cfg.Cluster.Context, _ = strings.Cut(kubeconfig, "#")
		if cfg.Token, err = s.runnerToken(s.token, tokenFile); err != nil {
			return err
		}
		if cfg.Guardrails, err = s.guardrailsFile(guardrails); err != nil {
			return err
		}
		if cfg.Logger, err = logs.logger(s); err != nil {
			return err
		}
		if cfg.Revision, err = revisionOf(s.Getenv(rollout.RevisionVar)); err != nil {
			return err
		}
		cfg.Image = s.Getenv(rollout.ImageVar)
		cfg.Identity = rollout.IdentityOf(cfg.Revision, s.Getenv(rollout.IdentityVar))
		if cfg.Self, err = s.deploymentFile(deployment); err != nil {
			return err
		}
		cfg.Out, cfg.Version = s.Out, version
		if checkOnly {
			fmt.Fprintf(s.Out, "berm %s starts with these flags\n", version)
			return nil
		}
		return notTransient(app.RunRunner(cmd.Context(), cfg))
	}
	f := c.Flags()
	f.StringVar(&cfg.Gateway.URL, "gateway", "", "https://HOST:PORT of the server to run sandboxes for; http only to this machine")
	f.StringVar(&tokenFile, "token-file", "", "file with the enrolment token; also "+runnerTokenVar+" or --token")
	f.StringVar(&cfg.Gateway.CAFile, "ca", "", "PEM file of the authorities that the gateway's certificate may be from, in place of the system's")
	f.BoolVar(&cfg.Gateway.Plain, "plain-text", false, "let http:// go over a network, where whoever listens can become the runner")
	f.StringVar(&cfg.DataDir, "data", "", "directory of the credential and the sandboxes (default: runner in the XDG state directory)")
	f.StringVar(&cfg.Backend, "backend", app.BackendLocal, "what runs the sandboxes: "+app.BackendLocal+", this machine, or "+app.BackendKube+", a Kubernetes cluster")
	f.StringVar(&guardrails, "guardrails", "", "YAML file with guardrails: of this machine's owner, which hold whatever the server says")
	machine.bind(ofMachine, &cfg.Config)
	ofKube.StringVar(&kubeconfig, "kubeconfig", "", "FILE[#CONTEXT] of the cluster with --backend kube; without it the usual one, inside of a pod its service account")
	ofKube.StringVar(&deployment, "deployment", "", "JSON file that says which StatefulSet this process is of, and whether the server may change it (docs/runners.md)")
	cluster.bind(ofKube)
	f.AddFlagSet(ofMachine)
	f.AddFlagSet(ofKube)
	outputFlags(f, &cfg.Config)
	logs.bind(f)
	f.BoolVar(&failpoints, "print-failpoints", false, "list the places where BERM_FAILPOINT can kill a process, and stop")
	_ = f.MarkHidden("print-failpoints")
	f.BoolVar(&checkOnly, strings.TrimPrefix(selfupdate.CheckFlag, "--"), false, "read flags and files, and stop")
	_ = f.MarkHidden(strings.TrimPrefix(selfupdate.CheckFlag, "--")) // for a rehearsal
	return c
}

// othersFlags refuses flags of the backend that is not used: they would be ignored.
func othersFlags(name string, ofMachine, ofKube *pflag.FlagSet) (err error) {
	others, other := ofKube, app.BackendKube
	if name == app.BackendKube {
		others, other = ofMachine, app.BackendLocal
	}
	others.VisitAll(func(f *pflag.Flag) {
		if f.Changed && err == nil {
			err = fault.Invalidf("USAGE", "--%s goes with --backend %s, and this runner's is %s", f.Name, other, name)
		}
	})
	return err
}

// runnerToken is the enrolment token that was given, "" for none.
func (s *session) runnerToken(flag, file string) (string, error) {
	if file == "" {
		if flag == "" {
			flag = s.Getenv(runnerTokenVar)
		}
		return strings.TrimSpace(flag), nil
	}
	if flag != "" {
		return "", fault.Invalidf("USAGE", "--token and --token-file exclude each other")
	}
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxTokenFile {
		return "", fault.Invalidf("USAGE", "%s is no token: it has %d bytes", file, info.Size())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", unreadable(file, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// guardrailsFile reads the guardrails of the owner, nil for none. Anything else in the file would be ignored: it is refused.
func (s *session) guardrailsFile(name string) (*resolve.Input, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // none is what was asked for
	}
	f, err := s.readFile(name)
	if err != nil {
		return nil, err
	}
	if err := unknownKeys(f.root, "", []string{"guardrails"}).Err("the file holds guardrails: and nothing else"); err != nil {
		return nil, f.show(err)
	}
	l, err := spec.DecodeLayer(f.root, "")
	if err != nil {
		return nil, f.show(err)
	}
	return &resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerZone, Object: "owner of the runner"}, Layer: l}, nil
}
