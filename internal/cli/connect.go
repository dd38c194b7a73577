package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
)

// connect connects to the server.
func (s *session) connect() (*client.Client, error) {
	cfg, err := s.server()
	if err != nil {
		return nil, err
	}
	s.tokenless = cfg.Token == ""
	return client.New(cfg)
}

// server finds the server: flags, then the environment, then the context, then a server that runs on this machine.
func (s *session) server() (client.Config, error) {
	cfg := client.Config{
		URL:    first(s.url, s.Getenv("BERM_URL"), s.Getenv("CWSANDBOX_BASE_URL")),
		Token:  first(s.token, s.Getenv("BERM_TOKEN"), s.Getenv("CWSANDBOX_API_KEY")),
		CAFile: first(s.caFile, s.Getenv("BERM_CA_FILE")),
	}
	if name := first(s.context, s.Getenv("BERM_CONTEXT")); cfg.URL == "" || (name != "" && s.url == "") {
		file, err := s.loadContexts()
		if err != nil {
			return cfg, err
		}
		if name == "" {
			name = file.Current
		}
		if name != "" {
			ctx, ok := file.Contexts[name]
			if !ok {
				return cfg, fault.NotFoundf("CONTEXT_NOT_FOUND", "there is no context %q", name).WithHint("`berm context list` shows them.")
			}
			cfg.URL, cfg.Token, cfg.CAFile = ctx.URL, first(cfg.Token, ctx.Token), first(cfg.CAFile, ctx.CAFile)
		}
	}
	if cfg.URL == "" || cfg.Token == "" {
		if err := s.localServer(&cfg); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// localServer fills in what a server on this machine left for its user. A URL that was given is kept: only its token is looked up.
func (s *session) localServer(cfg *client.Config) error {
	var found []config.Running
	for _, r := range s.running() {
		if cfg.URL == "" || strings.TrimRight(cfg.URL, "/") == r.URL {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0 && cfg.URL != "":
		return nil // somewhere else, and without a token: the server will say so
	case len(found) == 0:
		return fault.New(fault.Unavailable, "SERVER_UNREACHABLE", "no server is running on this machine, and none is set").
			WithHint("Start one with `berm serve`, or set BERM_URL and BERM_TOKEN.")
	case len(found) > 1:
		urls := make([]string, len(found))
		for i, r := range found {
			urls[i] = r.URL
		}
		return fault.Preconditionf("SERVER_AMBIGUOUS", "several servers run on this machine: %s", strings.Join(urls, ", ")).
			WithHint("Choose one with --url or BERM_URL.")
	}
	cfg.URL = found[0].URL
	if cfg.CAFile == "" {
		cfg.CAFile = found[0].CAFile
	}
	if cfg.Token == "" {
		token, err := os.ReadFile(found[0].TokenFile)
		if err != nil {
			return fault.New(fault.Unauthenticated, "TOKEN_UNREADABLE", "cannot read the token of the server at %s", cfg.URL).WithCause(err).
				WithHint("Set BERM_TOKEN, or run as the user who started the server.")
		}
		cfg.Token = strings.TrimSpace(string(token))
	}
	return nil
}

// running lists the live servers of this user.
func (s *session) running() []config.Running {
	files, err := filepath.Glob(filepath.Join(config.RunningDir(s.Getenv), "*.json"))
	if err != nil {
		return nil
	}
	var out []config.Running
	for _, name := range files {
		r, live := config.ReadRunning(name)
		if !live {
			continue // it ended without tidying up
		}
		out = append(out, r)
	}
	return out
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
