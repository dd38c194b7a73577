package sqlstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// step is one transaction of the crash scenario: all that it writes is found by its mark.
type step struct {
	name string
	run  func(ctx context.Context, tx store.Tx, mark string) error
	// done reports whether the step took effect.
	done func(ctx context.Context, r store.Reader, mark string) (bool, error)
}

// directly is what steps do that make their transactions themselves.
var directly = map[string]func(ctx context.Context, s store.Store, mark string) error{
	"seal": func(ctx context.Context, s store.Store, _ string) error { return s.SealAudit(ctx) },
	"prune": func(ctx context.Context, s store.Store, mark string) error {
		_, err := s.PruneAudit(ctx, "org-"+mark, time.Now().Add(time.Hour), 100)
		return err
	},
}

// perform runs the step.
func (st step) perform(ctx context.Context, s store.Store, mark string) error {
	if direct := directly[st.name]; direct != nil {
		return direct(ctx, s, mark)
	}
	return s.Update(ctx, func(tx store.Tx) error { return st.run(ctx, tx, mark) })
}

func found(err error) (bool, error) {
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

func crashZone(mark string) *store.Object { o := zone("zone-" + mark); return o }

func crashSandbox(mark string) *core.Sandbox {
	return &core.Sandbox{
		ID: "sandbox-" + mark, OrgID: "org", RunnerUUID: "runner-" + mark, Status: core.StatusPending, CreatedAt: time.Unix(1, 0), Tags: []string{"t"},
		Reserved: core.Amounts{CPUMillis: 5}, Launch: &specpb.Launch{}, Revision: 1,
	}
}

// steps write through every method of Tx.
func steps() []step {
	revision := func(want int32) func(context.Context, store.Reader, string) (bool, error) {
		return func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			return found(func() error {
				_, err := r.ObjectRevision(ctx, store.KindZone, "org", crashZone(mark).ID, want)
				return err
			}())
		}
	}
	used := func(want int64) func(context.Context, store.Reader, string) (bool, error) {
		return func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			a, err := r.Reserved(ctx, "runner-"+mark)
			return a.CPUMillis == want, err
		}
	}
	return []step{
		{"org", func(ctx context.Context, tx store.Tx, mark string) error {
			if err := tx.InsertOrg(ctx, &core.Org{ID: "org-" + mark, Name: mark}); err != nil {
				return err
			}
			return tx.InsertToken(ctx, &core.Token{ID: "token-" + mark, OrgID: "org-" + mark, Role: core.RoleUser, Hash: mark})
		}, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			_, err := r.TokenByHash(ctx, mark)
			return found(err)
		}},
		{"revoke", func(ctx context.Context, tx store.Tx, mark string) error {
			return tx.RevokeToken(ctx, "org-"+mark, "token-"+mark, time.Unix(9, 0))
		}, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			k, err := r.TokenByHash(ctx, mark)
			return err == nil && !k.RevokedAt.IsZero(), err
		}},
		{"seal", nil, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			c, err := r.AuditChain(ctx, "org-"+mark)
			return c.Head.Seq >= 2, err
		}},
		{"prune", nil, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			c, err := r.AuditChain(ctx, "org-"+mark)
			if err != nil {
				return false, err
			}
			rows, err := r.AuditAfter(ctx, c.Name, c.Anchor.Seq, 10)
			v := audit.NewVerifier(c, nil)
			for _, row := range rows {
				v.Add(row)
			}
			if got := v.Result(); err == nil && got.Bad != "" {
				err = errors.New(got.Bad) // whenever it is killed, the chain is whole
			}
			return c.Anchor.Seq >= 2, err
		}},
		{"insert", func(ctx context.Context, tx store.Tx, mark string) error { return tx.Insert(ctx, crashZone(mark)) }, revision(1)},
		{"update", func(ctx context.Context, tx store.Tx, mark string) error {
			o := crashZone(mark)
			o.Revision = 1
			return tx.Update(ctx, o)
		}, revision(2)},
		{"delete", func(ctx context.Context, tx store.Tx, mark string) error {
			o := crashZone(mark)
			o.Revision = 2
			return tx.Delete(ctx, o)
		}, revision(3)},
		{"secret", func(ctx context.Context, tx store.Tx, mark string) error {
			home := &store.SecretStore{ID: "store-" + mark, OrgID: "org-" + mark, Name: mark, Provider: "berm", KeyID: "k"}
			s := &store.Secret{OrgID: home.OrgID, StoreID: home.ID, Path: "p", Version: 1, Sealed: []byte("x")}
			return errors.Join(tx.InsertSecretStore(ctx, home, 10), tx.PutSecret(ctx, s, mark))
		}, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			_, err := r.Secret(ctx, "org-"+mark, "store-"+mark, "p")
			return found(err)
		}},
		{"capacity", func(ctx context.Context, tx store.Tx, mark string) error {
			return errors.Join(tx.SetCapacity(ctx, "runner-"+mark, core.Amounts{CPUMillis: 100}), tx.InsertOrg(ctx, &core.Org{ID: "capacity-" + mark, Name: "capacity-" + mark}))
		}, func(ctx context.Context, r store.Reader, mark string) (bool, error) {
			_, err := r.Org(ctx, "capacity-"+mark)
			return found(err)
		}},
		{"launch", func(ctx context.Context, tx store.Tx, mark string) error {
			s := crashSandbox(mark)
			if ok, err := tx.Reserve(ctx, s.RunnerUUID, s.Reserved); err != nil || !ok {
				return fmt.Errorf("reserve: %v, %w", ok, err)
			}
			return tx.InsertSandbox(ctx, s)
		}, used(5)},
		{"end", func(ctx context.Context, tx store.Tx, mark string) error {
			s := crashSandbox(mark)
			s.Status = core.StatusFailed
			return errors.Join(
				tx.UpdateSandbox(ctx, s), tx.PutSubmitted(ctx, s.OrgID, s.ID, json.RawMessage(`{}`)), tx.Release(ctx, s.RunnerUUID, s.Reserved),
			)
		}, used(0)},
		{"remove", func(ctx context.Context, tx store.Tx, mark string) error {
			return tx.DeleteSandbox(ctx, "org", "sandbox-"+mark)
		},
			func(ctx context.Context, r store.Reader, mark string) (bool, error) {
				_, err := r.Sandbox(ctx, "org", "sandbox-"+mark)
				there, err := found(err)
				return !there, err
			}},
	}
}

// childScenario runs the steps and prints the name of each once its commit is acknowledged.
func childScenario() int {
	ctx := context.Background()
	s, err := sqlstore.Open(ctx, sqlstore.Config{DSN: os.Getenv("DSN"), SealPause: -1})
	if err != nil {
		return failed("open: %v", err)
	}
	mark := os.Getenv("MARK")
	for _, st := range steps() {
		if err := st.perform(ctx, s, mark); err != nil {
			return failed("%s: %v", st.name, err)
		}
		_, _ = os.Stdout.WriteString(st.name + "\n")
	}
	if err := s.Close(); err != nil {
		return failed("close: %v", err)
	}
	return 0
}

// TestCrash kills a process at every failpoint, at its first hit, its second, and so on until the scenario passes: what was
// acknowledged is there, what was not is there as a whole or not at all, and it can be gone on with.
func TestCrash(t *testing.T) {
	engines := map[string]func(t *testing.T) func() string{
		// A new file for each run, so that the migrations are part of it.
		"sqlite": func(t *testing.T) func() string { return func() string { return sqliteDSN(t) } },
		"postgres": func(t *testing.T) func() string {
			dsn := postgres.Database(t)
			return func() string { return dsn }
		},
	}
	for engine, databases := range engines {
		t.Run(engine, func(t *testing.T) {
			dsn := databases(t)
			for _, point := range append(sqlstore.Failpoints(), "store.delete-sandbox", "store.prune-audit") {
				for hit := 1; ; hit++ {
					mark := fmt.Sprintf("%s-%d", strings.TrimPrefix(point, "store."), hit)
					if !crash(t, dsn(), point, hit, mark) {
						if hit == 1 {
							t.Errorf("%s is never passed", point)
						}
						break
					}
					if engine == "postgres" {
						break // a transaction of PostgreSQL ends in the same way wherever it is left
					}
				}
			}
		})
	}
}

// crash runs the scenario with one failpoint armed and reports whether that was reached.
func crash(t *testing.T, dsn, point string, hit int, mark string) bool {
	t.Helper()
	log := filepath.Join(t.TempDir(), "hit")
	cmd := child(t, "scenario", "DSN="+dsn, "MARK="+mark, fmt.Sprintf("%s=%s=%d", failpoint.EnvSpec, point, hit), failpoint.EnvLog+"="+log)
	out, err := cmd.Output()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s, hit %d: %v\n%s", point, hit, err, out)
	}
	if text, _ := os.ReadFile(log); string(text) != point+"\n" {
		t.Fatalf("%s, hit %d: died at %q", point, hit, text)
	}
	acknowledged := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		acknowledged[lines.Text()] = true
	}
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn, SealPause: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := 0
	for i, st := range steps() {
		// Looked at one by one, and gone on with where it stopped: an effect of the one that was lost would get in its way.
		if !acknowledged[st.name] {
			next = i
			break
		}
	}
	ctx := t.Context()
	if next > 0 && point != "store.after-commit" { // there the next one has overtaken it
		wantDone(t, s, steps()[next-1], mark, true)
	}
	for i, st := range steps()[next:] {
		whole := st.name != "prune" // that has more than one transaction
		if i == 0 && point == "store.after-commit" && whole {
			wantDone(t, s, st, mark, true)
			continue
		}
		if i == 0 && (point != "store.after-commit" || whole) {
			wantDone(t, s, st, mark, false)
		}
		if err := st.perform(ctx, s, mark); err != nil {
			t.Fatalf("%s, hit %d: going on with %s: %v", point, hit, st.name, err)
		}
		wantDone(t, s, st, mark, true)
	}
	return true
}

func wantDone(t *testing.T, s store.Store, st step, mark string, want bool) {
	t.Helper()
	var done bool
	err := s.View(t.Context(), func(r store.Reader) (err error) {
		done, err = st.done(t.Context(), r, mark)
		return err
	})
	if err != nil || done != want {
		t.Fatalf("%s of %s: done %v, %v; want %v", st.name, mark, done, err, want)
	}
}

// TestAcknowledgedIsInTheFiles copies the database and its log, as they are on disk, each time an update returns: what has
// returned is in the copy.
func TestAcknowledgedIsInTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berm.db")
	s := open(t, "sqlite://"+path)
	defer s.Close()
	ctx := t.Context()
	for i := range 5 {
		if err := insertZone(ctx, s, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		// By another process: closing a database file in this one would drop SQLite's locks on it.
		if out, err := exec.CommandContext(ctx, "cp", path, path+"-wal", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		copied := open(t, "sqlite://"+filepath.Join(dir, "berm.db"))
		for j := range 5 {
			_, err := found(hasZone(ctx, copied, fmt.Sprint(j)))
			if there, _ := found(hasZone(ctx, copied, fmt.Sprint(j))); err != nil || there != (j <= i) {
				t.Errorf("after update %d, object %d: there %v, %v", i, j, there, err)
			}
		}
		_ = copied.Close()
	}
}
