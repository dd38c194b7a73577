package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

func zone(id string) *store.Object {
	at := time.Unix(1, 0)
	return &store.Object{Kind: store.KindZone, OrgID: "org", ID: id, Name: id, Body: json.RawMessage(`{}`), CreatedAt: at, UpdatedAt: at}
}

func insertZone(ctx context.Context, s store.Store, id string) error {
	return s.Update(ctx, func(tx store.Tx) error { return tx.Insert(ctx, zone(id)) })
}

func hasZone(ctx context.Context, s store.Store, id string) error {
	return s.View(ctx, func(r store.Reader) error {
		_, err := r.Object(ctx, store.KindZone, "org", id)
		return err
	})
}

// refused opens a store that must not open.
func refused(t *testing.T, dsn string) *fault.Error {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
	if err == nil {
		_ = s.Close()
		t.Fatalf("%s opens", dsn)
	}
	var f *fault.Error
	if !errors.As(err, &f) || f.Message == "" || f.Hint == "" {
		t.Fatalf("got %v, want a fault with a message and a hint", err)
	}
	return f
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	s := open(t, "sqlite://"+filepath.Join(dir, "berm.db"))
	defer s.Close()
	if err := insertZone(t.Context(), s, "a"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Dir(dir): 0o700, filepath.Join(dir, "berm.db"): 0o600, filepath.Join(dir, "berm.db-wal"): 0o600,
		filepath.Join(dir, "berm.db-shm"): 0o600, filepath.Join(dir, "berm.db.lock"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

// A database that others could read is closed to them.
func TestModeTightened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berm.db")
	if err := open(t, "sqlite://"+path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	defer open(t, "sqlite://"+path).Close()
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func TestReopen(t *testing.T) {
	dsn := sqliteDSN(t)
	s := open(t, dsn)
	if err := insertZone(t.Context(), s, "a"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatalf("close, twice: %v", err)
	}
	s = open(t, dsn)
	defer s.Close()
	if err := hasZone(t.Context(), s, "a"); err != nil {
		t.Error(err)
	}
	// The change log goes on where it was.
	if err := insertZone(t.Context(), s, "b"); err != nil {
		t.Fatal(err)
	}
	var seqs []int64
	for c, err := range s.Changes(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seqs = append(seqs, c.Seq); len(seqs) == 2 {
			break
		}
	}
	if seqs[1] <= seqs[0] {
		t.Errorf("sequence numbers %v", seqs)
	}
}

func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b.db", "a%41?x=1#y.db", "ü;'.db", "-.db"} {
		dir := t.TempDir()
		s := open(t, "sqlite://"+filepath.Join(dir, name))
		if err := insertZone(t.Context(), s, "a"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		_ = s.Close()
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%q is not where it was asked for: %v", name, err)
		}
	}
}

// Two servers never share a database: not in one process, and not in two.
func TestOneServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berm.db")
	s := open(t, "sqlite://"+path)
	f := refused(t, "sqlite://"+path)
	if f.Reason != "STORE_IN_USE" || !strings.Contains(f.Message, fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want STORE_IN_USE with the process", f)
	}
	_ = s.Close()

	cmd := child(t, "holder", "DSN=sqlite://"+path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("open\n"))); err != nil {
		t.Fatalf("the other server: %v", err)
	}
	f = refused(t, "sqlite://"+path)
	if f.Reason != "STORE_IN_USE" || !strings.Contains(f.Message, fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("got %v, want STORE_IN_USE with process %d", f, cmd.Process.Pid)
	}
	// The one that holds it is not disturbed, and its sudden death leaves no lock.
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	_ = in.Close()
	_ = open(t, "sqlite://"+path).Close()
}

func childHolder() int {
	s, err := sqlstore.Open(context.Background(), sqlstore.Config{DSN: os.Getenv("DSN")})
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	defer s.Close()
	_, _ = os.Stdout.WriteString("open\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	exec := func(name string, queries ...string) string {
		path := filepath.Join(dir, name)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, q := range queries {
			if _, err := db.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, reason := range map[string]string{
		exec("other.db", `CREATE TABLE t (a)`):                                     "STORE_FOREIGN",
		exec("marked.db", `PRAGMA application_id = 7`, `CREATE TABLE objects (a)`): "STORE_FOREIGN",
		write("text.db", "hello, this is a text and no database at all"):           "STORE_FOREIGN",
		write("short.db", "SQLite"):                                                "STORE_FOREIGN",
		dir:                                                                        fault.ReasonStoreUnavailable,
	} {
		before, _ := os.ReadFile(path)
		if f := refused(t, "sqlite://"+path); f.Reason != reason {
			t.Errorf("%s: got %v, want %s", path, f, reason)
		}
		if _, err := sqlstore.Plan(t.Context(), "sqlite://"+path); err == nil {
			t.Errorf("%s: there is a plan for what is refused", path)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", path)
		}
	}
	if f := refused(t, "sqlite://"+filepath.Join(write("file", "x"), "berm.db")); f.Reason != fault.ReasonStoreUnavailable {
		t.Errorf("below a file: %v", f)
	}
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berm.db")
	_ = open(t, "sqlite://"+path).Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `INSERT INTO berm_schema (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	if f := refused(t, "sqlite://"+path); f.Reason != "SCHEMA_NEWER" || !strings.Contains(f.Message, "999") {
		t.Errorf("got %v, want SCHEMA_NEWER", f)
	}
	if _, err := sqlstore.Plan(t.Context(), "sqlite://"+path); !fault.HasReason(err, "SCHEMA_NEWER") {
		t.Errorf("plan: got %v, want SCHEMA_NEWER", err)
	}
}

// A page in the middle is overwritten: what is read from it is an error, never a made-up row.
func TestCorrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berm.db")
	s := open(t, "sqlite://"+path)
	for i := range 200 {
		if err := insertZone(t.Context(), s, fmt.Sprintf("zone-%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for i := 2 * page; i < len(text); i++ { // the header and the schema stay
		text[i] = 0xa5
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite://" + path})
	if err == nil {
		defer s.Close()
		err = hasZone(t.Context(), s, "zone-007")
	}
	f := fault.From(err)
	if f == nil || f.Code != fault.Internal || !strings.Contains(f.Message, "corrupt") || f.Hint == "" {
		t.Errorf("got %v, want an Internal fault that says corrupt", err)
	}
}

// inMountNamespace gives a child mounts of its own; who is not root becomes root in a user namespace.
func inMountNamespace(t *testing.T, name string) {
	t.Helper()
	cmd := child(t, name, "DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFullDisk(t *testing.T) { inMountNamespace(t, "full disk") }

func TestReadOnlyDisk(t *testing.T) { inMountNamespace(t, "read-only") }

// failed prints what went wrong in a child.
func failed(format string, args ...any) int {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...)
	return 1
}

func mountSmall(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m")
}

// childFullDisk fills the disk under a store: writes fail with a clear fault, reads go on, nothing acknowledged is lost, and
// writes work again when there is space.
func childFullDisk() int {
	dir, ctx := os.Getenv("DIR"), context.Background()
	if err := mountSmall(dir); err != nil {
		return failed("mount: %v", err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 5<<20), 0o600); err != nil {
		return failed("ballast: %v", err)
	}
	dsn := "sqlite://" + filepath.Join(dir, "berm.db")
	s, err := sqlstore.Open(ctx, sqlstore.Config{DSN: dsn})
	if err != nil {
		return failed("open: %v", err)
	}
	if err := fillUp(ctx, s, dir); err != nil {
		return failed("%v", err)
	}
	written := 0
	for ; err == nil; written++ {
		o := zone(fmt.Sprint(written))
		o.Body = json.RawMessage(`"` + strings.Repeat("x", 20_000) + `"`)
		err = s.Update(ctx, func(tx store.Tx) error { return tx.Insert(ctx, o) })
	}
	written--
	if f := fault.From(err); f.Code != fault.Unavailable || f.Reason != fault.ReasonStoreUnavailable || !strings.Contains(f.Message, "full") || f.Hint == "" {
		return failed("a full disk is %v, cause %v", f, f.Cause)
	}
	if err := s.Ready(ctx); !fault.Is(err, fault.Unavailable) {
		return failed("ready on a full disk: %v", err)
	}
	for i := range written {
		if err := hasZone(ctx, s, fmt.Sprint(i)); err != nil {
			return failed("object %d of %d on a full disk: %v", i, written, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		return failed("%v", err)
	}
	if err := errors.Join(s.Ready(ctx), insertZone(ctx, s, "after"), s.Close()); err != nil {
		return failed("with space again: %v", err)
	}
	if s, err = sqlstore.Open(ctx, sqlstore.Config{DSN: dsn}); err != nil {
		return failed("open again: %v", err)
	}
	defer s.Close()
	for i := range written {
		if err := hasZone(ctx, s, fmt.Sprint(i)); err != nil {
			return failed("object %d after reopening: %v", i, err)
		}
	}
	return 0
}

// fillUp fills the disk behind the store's back and takes that back again: the store is not ready, though no write has failed,
// and a second database on that disk does not open, and the message says where the disk is full.
func fillUp(ctx context.Context, s store.Store, dir string) error {
	if err := s.Ready(ctx); err != nil {
		return fmt.Errorf("ready at first: %w", err)
	}
	rest := filepath.Join(dir, "rest")
	if err := os.WriteFile(rest, make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	err := s.Ready(ctx)
	if f := fault.From(err); !fault.Is(err, fault.Unavailable) || !strings.Contains(f.Message, "full") || strings.Contains(f.Message, dir) || f.Hint == "" {
		return fmt.Errorf("ready on a disk that others filled: %w", err)
	}
	_, err = sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite://" + filepath.Join(dir, "second", "berm.db")})
	if f := fault.From(err); !fault.Is(err, fault.Unavailable) || !strings.Contains(f.Message, "is full") || !strings.Contains(f.Message, filepath.Join(dir, "second")) {
		return fmt.Errorf("open on a full disk: %w", err)
	}
	return errors.Join(os.Remove(rest), os.RemoveAll(filepath.Join(dir, "second")))
}

// childReadOnly opens databases where nothing can be written.
func childReadOnly() int {
	dir, ctx := os.Getenv("DIR"), context.Background()
	if err := mountSmall(dir); err != nil {
		return failed("mount: %v", err)
	}
	path := filepath.Join(dir, "berm.db")
	s, err := sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite://" + path})
	if err != nil {
		return failed("open: %v", err)
	}
	if err := s.Close(); err != nil {
		return failed("close: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return failed("remount: %v", err)
	}
	for _, p := range []string{path, filepath.Join(dir, "new", "berm.db")} {
		_, err := sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite://" + p})
		if f := fault.From(err); f == nil || f.Code != fault.Unavailable || !strings.Contains(f.Message, "read-only") || f.Hint == "" {
			return failed("%s on a read-only file system: %v", p, err)
		}
	}
	return 0
}

func TestBadDSN(t *testing.T) {
	for _, dsn := range []string{
		"", "berm.db", "/var/lib/berm.db", "sqlite://", "sqlite://:memory:", "sqlite:///tmp/", "mysql://root@localhost/x", "sqlite:///a\x00b",
		"postgres://u:secret@[::1/x", "postgres://u:secret@host:port/x", "sqlite://" + strings.Repeat("x", sqlstore.MaxDSN),
	} {
		_, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%.40q: got %v, want Invalid", dsn, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in %v", err)
		}
		if _, err := sqlstore.Plan(t.Context(), dsn); !fault.Is(err, fault.Invalid) {
			t.Errorf("plan %.40q: got %v, want Invalid", dsn, err)
		}
	}
}
