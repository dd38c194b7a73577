package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// The schema of each engine, one file per version, the same versions for both. They only ever go forward: a released file
// is never changed, and there is no way down.
//
//go:embed migrations
var migrationFiles embed.FS

// versionTable is where goose notes which migrations a database has.
const versionTable = "berm_schema"

// ourTables are looked for in a database that has no versionTable: it is somebody else's when it has one of them.
const ourTables = `'objects', 'object_revisions', 'sandboxes', 'changes', 'orgs', 'tokens', 'settings'`

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	// SQL is what the step runs on its engine.
	SQL string
}

// Schema is what the schema of a database is, and what it would be.
type Schema struct {
	// Engine is "sqlite" or "postgres".
	Engine string
	// Path is the file of SQLite.
	Path string
	// Exists is false for a SQLite file that is not there, or has nothing in it.
	Exists bool
	// Version is that of the database, 0 when nothing of Berm is in it, Latest that of this program.
	Version, Latest int64
	// All are the steps of the engine in order, Pending those of them that Open would run.
	All, Pending []Migration
}

// Plan looks at the database of a DSN and changes nothing: a SQLite file that is not there is not made. What Open would refuse
// for what is in it, this refuses too.
func Plan(ctx context.Context, dsn string) (*Schema, error) {
	t, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	s := &Schema{Engine: t.engine, Path: t.path, Exists: true}
	if s.All, err = migrations(t.engine); err != nil {
		return nil, err
	}
	s.Latest = s.All[len(s.All)-1].Version
	if t.engine == "postgres" {
		s.Version, err = postgresVersion(ctx, t.url)
	} else {
		s.Version, s.Exists, err = sqliteVersion(ctx, t.path)
	}
	if err != nil {
		return nil, err
	}
	s.Pending = s.All
	for len(s.Pending) > 0 && s.Pending[0].Version <= s.Version {
		s.Pending = s.Pending[1:]
	}
	return s, nil
}

func migrations(engine string) ([]Migration, error) {
	dir := path.Join("migrations", engine)
	entries, err := migrationFiles.ReadDir(dir)
	if err != nil {
		return nil, fault.Internalf(err, "read the migrations")
	}
	all := make([]Migration, 0, len(entries))
	for _, e := range entries {
		text, err := migrationFiles.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, fault.Internalf(err, "read the migrations")
		}
		number, name, _ := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fault.Internalf(err, "the migration %s has no number", e.Name())
		}
		all = append(all, Migration{Version: version, Name: name, SQL: string(text)})
	}
	return all, nil
}

// schemaVersion returns the version of a database's schema, 0 for an empty one. tables is a query for the number of its
// tables with the names in the argument, any the same for all.
func schemaVersion(ctx context.Context, db *sql.DB, engine, tables string) (int64, error) {
	// The version is looked for last: another gateway may be making both now, the version first.
	var ours, found int64
	for _, q := range []struct {
		names string
		n     *int64
	}{{ourTables, &ours}, {"'" + versionTable + "'", &found}} {
		if err := db.QueryRowContext(ctx, fmt.Sprintf(tables, q.names)).Scan(q.n); err != nil {
			return 0, driverFault(err)
		}
	}
	switch {
	case found == 0 && ours > 0:
		return 0, foreign("it has tables with the names of Berm's, which Berm did not make")
	case found == 0:
		return 0, nil
	}
	var version sql.NullInt64
	if err := db.QueryRowContext(ctx, `SELECT max(version_id) FROM `+versionTable).Scan(&version); err != nil {
		return 0, driverFault(err)
	}
	all, err := migrations(engine)
	if err != nil {
		return 0, err
	}
	if last := all[len(all)-1].Version; version.Int64 > last {
		return 0, fault.Preconditionf("SCHEMA_NEWER", "the database has schema version %d, this Berm knows versions up to %d", version.Int64, last).
			WithHint("a newer Berm wrote it: run that version, or restore the backup made before the upgrade")
	}
	return version.Int64, nil
}

func foreign(why string) error {
	return fault.Preconditionf("STORE_FOREIGN", "the database is not Berm's: %s", why).WithHint("give Berm a database of its own")
}

// migrate brings the schema up to date. Several gateways may do so at once where options has a lock.
func migrate(ctx context.Context, db *sql.DB, engine string, dialect goose.Dialect, options ...goose.ProviderOption) error {
	files, err := fs.Sub(migrationFiles, path.Join("migrations", engine))
	if err != nil {
		return fault.Internalf(err, "read the migrations")
	}
	options = append(options, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	p, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return fault.Internalf(err, "prepare the migrations")
	}
	failpoint.Hit(fpMigrate)
	if _, err := p.Up(ctx); err != nil {
		f := driverFault(err).Clone()
		var partial *goose.PartialError
		if errors.As(err, &partial) && f.Code == fault.Internal {
			f = fault.Internalf(err, "migration %d of the schema failed; nothing of it was kept", partial.Failed.Source.Version)
		}
		return f
	}
	failpoint.Hit(fpMigrated)
	return nil
}
