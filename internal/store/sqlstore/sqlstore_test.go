package sqlstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
	"github.com/bermhq/berm/internal/store/storetest"
	"github.com/bermhq/berm/internal/store/storetest/pgtest"
)

// postgres is the server of this test process; it starts when the first test asks for a database.
var postgres pgtest.Server

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(children[child]())
	}
	code := m.Run()
	postgres.Stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// childEnv names what this binary does instead of running tests, for what a test cannot do in its own process.
const childEnv = "BERM_SQLSTORE_TEST_CHILD"

// children are those things; each returns the exit code.
var children = map[string]func() int{
	"scenario":  childScenario,
	"holder":    childHolder,
	"full disk": childFullDisk,
	"read-only": childReadOnly,
}

// child prepares a run of this binary as one of children.
func child(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childEnv+"="+name), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

func open(t testing.TB, dsn string) store.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func sqliteDSN(t testing.TB) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "berm.db")
}

func TestContractSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, sqliteDSN(t)) })
}

func TestContractPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, postgres.Database(t)) })
}
