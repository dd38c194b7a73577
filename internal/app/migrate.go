package app

import (
	"context"
	"path/filepath"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// Schema is what `berm migrate` tells.
type Schema struct {
	// Database is the SQLite file; for PostgreSQL it is the engine's name alone, because the URL may hold a password.
	Database string
	Engine   string
	// Exists is false for a SQLite file that is not there.
	Exists bool
	// Version is what the database has, Latest what this program needs.
	Version, Latest int64
	// All are the steps of the engine, Pending those that a start of the server would run.
	All, Pending []Migration
}

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name, SQL string
}

// Migrations looks at the schema of the database of cfg and changes nothing.
func Migrations(ctx context.Context, cfg Config) (*Schema, error) {
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fault.Invalidf("DATA_DIR", "cannot use the data directory %s", cfg.DataDir).WithCause(err)
	}
	plan, err := sqlstore.Plan(ctx, cfg.dsn())
	if err != nil {
		return nil, err
	}
	s := &Schema{
		Database: "PostgreSQL", Engine: plan.Engine, Exists: plan.Exists, Version: plan.Version, Latest: plan.Latest,
		All: steps(plan.All), Pending: steps(plan.Pending),
	}
	if plan.Engine == "sqlite" {
		s.Database = plan.Path
	}
	return s, nil
}

// Migrate brings the schema up to date, as a start of the server does, and stops there. A database that is not there is made.
func Migrate(ctx context.Context, cfg Config) error {
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot use the data directory %s", cfg.DataDir).WithCause(err)
	}
	s, err := sqlstore.Open(ctx, sqlstore.Config{DSN: cfg.dsn(), Logger: cfg.Logger})
	if err != nil {
		return err
	}
	return s.Close()
}

func steps(all []sqlstore.Migration) []Migration {
	out := make([]Migration, 0, len(all))
	for _, m := range all {
		out = append(out, Migration(m))
	}
	return out
}
