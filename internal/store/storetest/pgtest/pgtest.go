// Package pgtest runs a private PostgreSQL server for tests, from the binaries that the system has: on a free port of the
// loopback interface, with its data in a temporary directory, one per test process. The server ends with the process that
// started it, also when that is killed.
//
//	var postgres pgtest.Server // in the test package
//
//	func TestMain(m *testing.M) { code := m.Run(); postgres.Stop(); os.Exit(code) }
//
//	dsn := postgres.Database(t) // a fresh database; starts the server when it is the first
package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

const (
	// startTimeout is how long the server may take to accept connections.
	startTimeout = 60 * time.Second
	// portAttempts is how many ports are tried: somebody may take one between the choice and the start.
	portAttempts = 5
	// connectPause is the time between two attempts to connect while the server starts.
	connectPause = 10 * time.Millisecond
)

// binaries is where Debian, Ubuntu and the PostgreSQL project install them.
const binaries = "/usr/lib/postgresql/*/bin"

// Server is a PostgreSQL server. The zero value starts one when the first database is asked for.
type Server struct {
	once sync.Once
	err  error

	bin, dir, password string
	port               int
	stop               func()
	databases          atomic.Int64
}

// Database makes an empty database and returns its URL. The test fails, with the package to install, when the system has
// no PostgreSQL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.once.Do(func() { s.err = s.start() })
	if s.err != nil {
		t.Fatalf("start a private PostgreSQL: %v", s.err)
	}
	name := "t" + strconv.FormatInt(s.databases.Add(1), 10)
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(`CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'UTF8'`); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/%s?sslmode=disable", s.password, s.port, database)
}

// Stop ends the server and removes its data. It does nothing when none was started.
func (s *Server) Stop() {
	s.once.Do(func() { s.err = errors.New("the server was stopped before it was used") })
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// Binaries returns the directory of the newest PostgreSQL on the system.
func Binaries() (string, error) {
	found, _ := filepath.Glob(filepath.Join(binaries, "postgres"))
	if len(found) == 0 {
		return "", fmt.Errorf("no PostgreSQL in %s: install it with `apt-get install postgresql`", binaries)
	}
	major := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) })
	return filepath.Dir(newest), nil
}

func (s *Server) start() (err error) {
	if s.bin, err = Binaries(); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "berm-pg-"); err != nil {
		return err
	}
	attributes, err := s.dropRoot()
	if err != nil {
		return err
	}
	s.password = rand.Text()
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.password+"\n"), 0o644); err != nil { // the directory is closed to others
		return err
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "--pgdata", s.data(), "--username", "postgres", "--pwfile", secret,
		"--auth", "password", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attributes, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for range portAttempts {
		if err = s.run(attributes); err == nil {
			return nil
		}
	}
	return err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// dropRoot gives the directory to the user postgres when this process is root, which the server refuses to run as.
func (s *Server) dropRoot() (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return attributes, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("the server does not run as root, and there is no user postgres: %w (apt-get install postgresql makes it)", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, os.Chown(s.dir, uid, gid)
}

// run starts the server on a free port and waits until it answers.
func (s *Server) run(attributes *syscall.SysProcAttr) error {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "shared_buffers=32MB",
		// What is lost in a crash of the machine is of no interest to a test.
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "autovacuum=off", "-c", "deadlock_timeout=50ms")
	dying := *attributes
	dying.Pdeathsig = syscall.SIGQUIT // "immediate shutdown": it takes its children along
	cmd.SysProcAttr, cmd.Dir = &dying, s.dir
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log

	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The signal of death comes when the thread that started the server ends, so that thread must not.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // "fast shutdown"
		<-exited
	}
	if err := s.await(exited); err != nil {
		stop()
		return fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	s.stop = stop
	return nil
}

// await polls until the server accepts connections.
func (s *Server) await(exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tick := time.NewTicker(connectPause)
	defer tick.Stop()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-exited:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		case <-tick.C:
		}
	}
}
