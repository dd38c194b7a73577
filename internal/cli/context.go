package cli

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
)

// contexts is the file of named servers.
type contexts struct {
	Current  string                  `yaml:"current,omitempty"`
	Contexts map[string]namedContext `yaml:"contexts,omitempty"`
}

type namedContext struct {
	URL    string `yaml:"url" json:"url"`
	Token  string `yaml:"token,omitempty" json:"-"`
	CAFile string `yaml:"ca_file,omitempty" json:"caFile,omitempty"`
}

func (s *session) loadContexts() (*contexts, error) {
	name := config.ContextFile(s.Getenv)
	raw, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &contexts{}, nil
	}
	if err != nil {
		return nil, fault.Invalidf("CONTEXT_FILE", "cannot read %s", name).WithCause(err)
	}
	var c contexts
	if err := yaml.Unmarshal(raw, &c); err != nil {
		return nil, fault.Invalidf("CONTEXT_FILE", "%s: %v", name, err)
	}
	return &c, nil
}

func (s *session) saveContexts(c *contexts) error {
	name := config.ContextFile(s.Getenv)
	raw, err := yaml.Marshal(c)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil { // it holds tokens: written aside with tight permissions, then put in place
		err = os.WriteFile(name+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fault.Internalf(err, "cannot write %s", name)
	}
	return nil
}

func (s *session) contextCmd() *cobra.Command {
	return noun("context", "Named servers", s.contextListCmd(), s.contextSetCmd(), s.contextUseCmd(), s.contextDeleteCmd())
}

func (s *session) contextListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List contexts", Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			c, err := s.loadContexts()
			if err != nil {
				return err
			}
			if c.Contexts == nil {
				c.Contexts = map[string]namedContext{} // {} for programs, not null
			}
			return s.emit(map[string]any{"current": c.Current, "contexts": c.Contexts}, func() table {
				t := table{head: []string{"CURRENT", "NAME", "URL"}}
				for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
					mark := ""
					if name == c.Current {
						mark = "*"
					}
					t.rows = append(t.rows, []string{mark, name, c.Contexts[name].URL})
				}
				return t
			})
		},
	})
}

func (s *session) contextSetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "set NAME --url URL [--token TOKEN] [--ca-file FILE]", Short: "Make or change a context, and use it", Args: args(1, 1, "a name"),
		RunE: func(_ *cobra.Command, a []string) error {
			if s.url == "" {
				return fault.Invalidf("USAGE", "a context needs --url")
			}
			probe, err := client.New(client.Config{URL: s.url, CAFile: s.caFile})
			if err != nil {
				return err
			}
			_ = probe.Close() // nothing was sent
			ca := s.caFile
			if ca != "" {
				if ca, err = filepath.Abs(ca); err != nil { // it is used in other directories
					return fault.Internalf(err, "cannot name the CA file")
				}
			}
			c, err := s.loadContexts()
			if err != nil {
				return err
			}
			if c.Contexts == nil {
				c.Contexts = map[string]namedContext{}
			}
			token := first(s.token, s.Getenv("BERM_TOKEN"), c.Contexts[a[0]].Token)
			c.Contexts[a[0]] = namedContext{URL: s.url, Token: token, CAFile: ca}
			c.Current = a[0]
			if err := s.saveContexts(c); err != nil {
				return err
			}
			return s.report(map[string]string{"name": a[0], "url": s.url}, "")
		},
	})
}

func (s *session) contextUseCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "use NAME", Short: "Use a context from now on", Args: args(1, 1, "a name"),
		RunE: func(_ *cobra.Command, a []string) error {
			c, err := s.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := c.Contexts[a[0]]; !ok {
				return fault.NotFoundf("CONTEXT_NOT_FOUND", "there is no context %q", a[0]).WithHint("`berm context list` shows them.")
			}
			c.Current = a[0]
			if err := s.saveContexts(c); err != nil {
				return err
			}
			return s.report(map[string]string{"name": a[0], "url": c.Contexts[a[0]].URL}, "")
		},
	})
}

func (s *session) contextDeleteCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "delete NAME", Short: "Forget a context", Args: args(1, 1, "a name"),
		RunE: func(_ *cobra.Command, a []string) error {
			c, err := s.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := c.Contexts[a[0]]; !ok {
				return fault.NotFoundf("CONTEXT_NOT_FOUND", "there is no context %q", a[0])
			}
			delete(c.Contexts, a[0])
			if c.Current == a[0] {
				c.Current = ""
			}
			if err := s.saveContexts(c); err != nil {
				return err
			}
			return s.report(map[string]string{"name": a[0]}, "context %s forgotten", a[0])
		},
	})
}
