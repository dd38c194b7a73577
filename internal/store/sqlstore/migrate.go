package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/bermhq/berm/internal/core/fault"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrate brings the schema up to date. Migrations only go forward; a database that a newer server has written is refused.
func migrate(ctx context.Context, d dialect, db *sql.DB) error {
	p, err := provider(d, db)
	if err != nil {
		return err
	}
	current, err := p.GetDBVersion(ctx)
	if err != nil {
		return fromDriver(unwrapGoose(err))
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	if current > newest {
		return fault.Preconditionf("DATABASE_NEWER", "the database has schema version %d, this server knows up to %d", current, newest).
			WithHint("It was written by a newer server: run that one.")
	}
	if _, err := p.Up(ctx); err != nil {
		return fromDriver(unwrapGoose(err))
	}
	return nil
}

// Migrations returns the text of every migration in order, for printing.
func Migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]string, len(names))
	for i, name := range names {
		raw, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out[i] = "-- " + name + "\n" + string(raw)
	}
	return out, nil
}

func provider(d dialect, db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, fault.Internalf(err, "read migrations")
	}
	var options []goose.ProviderOption
	if !d.grouped { // several gateways may start at once
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, fault.Internalf(err, "make the migration lock")
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(goose.Dialect(d.goose), db, dir, options...)
	if err != nil {
		return nil, fault.Internalf(err, "read migrations")
	}
	return p, nil
}

// unwrapGoose returns the driver's error, which the library wraps in a report of its own.
func unwrapGoose(err error) error {
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Err != nil {
		return partial.Err
	}
	return err
}
