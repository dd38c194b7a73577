// Package app is the composition root: configuration in, a running server out. It is the only package that sees every adapter, and it
// alone decides the order in which things start and stop.
package app

import (
	"io"
	"log/slog"
	"path/filepath"

	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/spec"
)

// Config is everything that `berm serve` can be told.
type Config struct {
	// DataDir holds the database, the admin token and the sandboxes. Made with mode 0700 when missing.
	DataDir string
	// Listen is HOST:PORT of REST and gRPC; GRPCListen, when not empty, that of a native gRPC listener.
	Listen, GRPCListen string
	// TLSCert and TLSKey are PEM files; both or neither.
	TLSCert, TLSKey string
	// Database is a postgres:// URL; "" is SQLite in the data directory.
	Database string
	// Runners are embedded in this process, one managed runner each.
	Runners []Runner
	// ImageAliases maps an image reference to "oci:PATH", an OCI layout on this machine.
	ImageAliases map[string]string
	// NodeLabels, when not nil, make node selectors count.
	NodeLabels map[string]string
	// Runtime is the default OCI runtime; "" picks one that works.
	Runtime string
	// RunningDir is where the server tells the command line of the same user that it runs.
	RunningDir string
	Version    string
	Logger     *slog.Logger
	// Out gets what a person who starts a server wants to read.
	Out io.Writer
}

// Runner is one embedded runner.
type Runner struct {
	Name, Zone string
}

// dsn is the address of the database.
func (c *Config) dsn() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite://" + filepath.Join(c.DataDir, "berm.db")
}

// check finds what is wrong by itself, before anything is touched.
func (c *Config) check() error {
	for _, r := range c.Runners {
		for _, name := range []string{r.Name, r.Zone} {
			if err := spec.CheckName("--runner", name); err != nil {
				return err
			}
		}
	}
	_, err := image.ParseAliases(c.ImageAliases)
	return err
}
