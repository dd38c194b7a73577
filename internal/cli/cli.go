// Package cli is the command line: people to API and back. One file per noun; errors.go alone picks exit codes and prints hints;
// output.go alone knows formats.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// version is set by the linker.
var version = "unknown"

// Stdio is what a command reads and writes, and the environment it sees.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// session is one run of the command line.
type session struct {
	Stdio
	url, token, caFile, context string
	output                      string
	// flags names the flags that made a launch request, by request path; nil when a file made it.
	flags map[string]string
	// preview: edits are only looked at, and launches say how many of the last launches are decided again.
	preview  bool
	launches int32
	asking   asking
	// tokenless: no token was found for the server.
	tokenless bool
}

// Main runs a command line without the program's name and returns the exit code.
func Main(ctx context.Context, args []string, io Stdio) int {
	s := &session{Stdio: io}
	root := s.root()
	root.SetArgs(args)
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	err := root.ExecuteContext(ctx)
	return s.exit(err)
}

func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "berm",
		Short: "Sandboxes with profiles, on one machine or a fleet of clusters",
		Long: `Berm runs untrusted code in sandboxes. Profiles say what a sandbox may be, runners run them, bindings attach a profile to a
runner with overrides, and every field of every sandbox can say where it came from.

Start a server with "berm serve"; on the same machine the other commands then find it by themselves. Elsewhere set BERM_URL and
BERM_TOKEN (CWSANDBOX_BASE_URL and CWSANDBOX_API_KEY are read too), or make a context.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	nounArgs(root)
	// cobra's own would link templates, and with them every method of every type: 8 MB of the binary.
	shown := root.Flags().BoolP("version", "v", false, "print the version")
	root.RunE = func(c *cobra.Command, _ []string) error {
		if *shown {
			fmt.Fprintf(s.Out, "berm %s\n", version)
			return nil
		}
		return c.Help()
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		e := fault.Invalidf("USAGE", "%s", err.Error())
		if near := nearFlag(c, err.Error()); near != "" {
			return e.WithHint("Did you mean --%s?", near)
		}
		return e.WithHint("Run %q for the flags.", c.CommandPath()+" --help")
	})
	f := root.PersistentFlags()
	f.StringVar(&s.url, "url", "", "server to talk to (BERM_URL)")
	f.StringVar(&s.token, "token", "", "API token (BERM_TOKEN); prefer the variable: arguments are visible to other users")
	f.StringVar(&s.caFile, "ca-file", "", "PEM file of the authorities to trust (BERM_CA_FILE)")
	f.StringVar(&s.context, "context", "", "context to use in place of the current one (BERM_CONTEXT)")
	root.AddGroup(&cobra.Group{ID: "sandbox", Title: "Sandboxes:"}, &cobra.Group{ID: "config", Title: "Profiles, runners, zones:"},
		&cobra.Group{ID: "server", Title: "Server:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("sandbox", s.runCmd(), s.execCmd(), s.execsCmd(), s.shellCmd(), s.logsCmd(), s.cpCmd(), s.portForwardCmd(), s.portLinkCmd(), s.lsCmd(), s.getCmd(), s.watchCmd(), s.topCmd(), s.stopCmd(), s.pauseCmd(), s.resumeCmd(), s.forkCmd(), s.rmCmd(), s.leaseCmd(), s.planCmd(), s.explainCmd())
	add("config", s.profileCmd(), s.runnerCmd(), s.zoneCmd(), s.secretCmd())
	add("config", s.imageCmd(), s.lintCmd(), s.exportCmd(), s.applyCmd(), s.importCmd())
	add("server", s.serveCmd(), s.kubeImageCmd(), s.migrateCmd(), s.auditCmd(), s.benchCmd(), s.orgCmd(), s.tokenCmd(), s.whoamiCmd(), s.contextCmd())
	return root
}

// nearFlag returns the flag of c that the one of the error is most likely a misspelling of, "" when there is none.
func nearFlag(c *cobra.Command, text string) string {
	_, name, ok := strings.Cut(text, "unknown flag: --")
	if !ok {
		return ""
	}
	var known []string
	for _, m := range flagInUsage.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
		known = append(known, m[1])
	}
	return tree.Suggest(name, known)
}

// flagInUsage finds the flags in a usage text, which leaves hidden ones out.
var flagInUsage = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)`)

// outputFlag adds -o to a command.
func (s *session) outputFlag(c *cobra.Command) *cobra.Command {
	return s.outputFlagOf(c, "output format: table, wide, json or yaml", "table", "wide", "json", "yaml")
}

// outputFlagOf adds -o with the formats named, the first of which is the default.
func (s *session) outputFlagOf(c *cobra.Command, usage string, formats ...string) *cobra.Command {
	s.output = formats[0]
	c.Flags().VarP(&format{&s.output, formats}, "output", "o", usage)
	return c
}

// format is the value of -o. A wrong one is refused before a command does anything.
type format struct {
	value *string
	known []string
}

func (f *format) String() string { return *f.value }
func (f *format) Type() string   { return "string" }

func (f *format) Set(v string) error {
	if !slices.Contains(f.known, v) {
		last := len(f.known) - 1
		return fmt.Errorf("use %s or %s", strings.Join(f.known[:last], ", "), f.known[last])
	}
	*f.value = v
	return nil
}

// exclusive refuses a flag together with any of others: none of them would count.
func exclusive(c *cobra.Command, flag string, others ...string) {
	before := c.PreRunE
	c.PreRunE = func(cmd *cobra.Command, a []string) error {
		for _, other := range others {
			if cmd.Flags().Changed(flag) && cmd.Flags().Changed(other) {
				return fault.Invalidf("USAGE", "--%s and --%s exclude each other", flag, other).WithHint("Leave one of them out.")
			}
		}
		if before != nil {
			return before(cmd, a)
		}
		return nil
	}
}

// noun makes a command that only holds others.
func noun(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	nounArgs(c)
	c.AddCommand(subs...)
	return c
}

// nounArgs makes an unknown subcommand an error with a suggestion, not the help text with exit code 0.
func nounArgs(c *cobra.Command) {
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		e := fault.Invalidf("USAGE", "unknown command %q for %q", args[0], c.CommandPath())
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return e.WithHint("Did you mean %q?", c.CommandPath()+" "+near[0])
		}
		return e.WithHint("Run %q for the commands.", c.CommandPath()+" --help")
	}
}

// args checks the number of arguments and says which are missing by name.
func args(least, most int, names string) cobra.PositionalArgs {
	return func(c *cobra.Command, got []string) error {
		switch {
		case len(got) < least:
			return fault.Invalidf("USAGE", "%s needs %s", c.CommandPath(), names).WithHint("Usage: %s", c.UseLine())
		case most >= 0 && len(got) > most:
			return fault.Invalidf("USAGE", "%s takes %s, got %d arguments", c.CommandPath(), names, len(got)).WithHint("Usage: %s", c.UseLine())
		}
		return nil
	}
}

// with runs fn with a connected client.
func (s *session) with(fn func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := s.connect()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // the answer was read
		if err := fn(cmd.Context(), c, args); !errors.Is(err, errPreviewed) {
			return err
		}
		return nil
	}
}
