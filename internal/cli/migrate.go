package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
)

// schemaJSON is what `berm migrate -o json` prints.
type schemaJSON struct {
	Database string     `json:"database"`
	Engine   string     `json:"engine"`
	Exists   bool       `json:"exists"`
	Version  int64      `json:"version"`
	Latest   int64      `json:"latest"`
	Steps    []stepJSON `json:"steps"`
}

type stepJSON struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
	SQL     string `json:"sql"`
}

func (s *session) migrateCmd() *cobra.Command {
	var cfg app.Config
	var apply, all bool
	c := &cobra.Command{
		Use:   "migrate [--data DIR | --db URL]",
		Short: "Show the schema of a database and the SQL that would bring it up to date",
		Long: `Show which version the schema of a database has, and print the SQL that a start of this berm would run on it. Nothing is changed, and
a server may be running; --apply runs it, as starting the server would. The schema only ever goes forward.

The SQL is on standard output, what it is about on standard error: "berm migrate --all >schema.sql" has no other text.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("db") && cfg.DataDir != "" {
				return fault.Invalidf("USAGE", "--data and --db name two databases").WithHint("Give one of them.")
			}
			if cfg.DataDir == "" {
				cfg.DataDir = config.StateDir(s.Getenv)
			}
			found, err := app.Migrations(cmd.Context(), cfg)
			if err != nil {
				return notTransient(err)
			}
			steps := found.Pending
			if all {
				steps = found.All
			}
			if !apply || len(found.Pending) == 0 {
				return s.emitSchema(found, steps, schemaText(found))
			}
			if err := app.Migrate(cmd.Context(), cfg); err != nil {
				return notTransient(err)
			}
			now, err := app.Migrations(cmd.Context(), cfg)
			if err != nil {
				return notTransient(err)
			}
			return s.emitSchema(now, steps, appliedText(found, now))
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.DataDir, "data", "", "data directory (default: the XDG state directory)")
	f.StringVar(&cfg.Database, "db", "", "postgres://… URL (default: SQLite in the data directory)")
	f.BoolVar(&apply, "apply", false, "run what is pending; stop a server on SQLite first")
	f.BoolVar(&all, "all", false, "print every step, also those that the database has")
	return s.outputFlag(c)
}

// emitSchema prints what there is, and the steps in question.
func (s *session) emitSchema(found *app.Schema, steps []app.Migration, text string) error {
	if s.output == "json" || s.output == "yaml" {
		out := schemaJSON{found.Database, found.Engine, found.Exists, found.Version, found.Latest, make([]stepJSON, 0, len(steps))}
		for _, m := range steps {
			out.Steps = append(out.Steps, stepJSON{m.Version, m.Name, m.Version <= found.Version, m.SQL})
		}
		return s.emit(out, nil)
	}
	fmt.Fprintln(s.Err, clean(text))
	for _, m := range steps {
		fmt.Fprintf(s.Out, "-- %05d %s\n%s\n", m.Version, m.Name, strings.TrimSpace(m.SQL))
	}
	return nil
}

func schemaText(found *app.Schema) string {
	state := fmt.Sprintf("%s has schema version %d", found.Database, found.Version)
	switch {
	case !found.Exists:
		state = found.Database + " is not there yet"
	case found.Version == 0:
		state = found.Database + " has no schema yet"
	}
	if len(found.Pending) == 0 {
		return state + ", which is what this berm needs"
	}
	return fmt.Sprintf("%s; a start of the server, or --apply, takes it to version %d by:", state, found.Latest)
}

func appliedText(before, now *app.Schema) string {
	return fmt.Sprintf("%s had schema version %d and has version %d now, by:", now.Database, before.Version, now.Version)
}
