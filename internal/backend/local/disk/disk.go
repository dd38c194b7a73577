// Package disk gives each sandbox a file system of its own and of limited size, in a sparse file on the machine's disk: what
// is written there is no memory, a full one is full for its sandbox alone, and so are its files used up. Any file system can
// hold the file; no mount option of the machine's is needed, as project quotas would.
//
// The file system is ext4 without a journal: nothing of it is wanted after a crash of the machine. One is made per size and
// then copied, which takes a fraction of a millisecond. Nobody but the kernel writes to it.
package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/sparse"
)

const (
	// MinBytes is the smallest file system.
	MinBytes = 16 << 20
	// MaxBytes is the largest.
	MaxBytes = 4 << 40
	// BytesPerFile is how much of a file system there is for each file that it can hold.
	BytesPerFile = 16 << 10
	// maxTemplates is how many sizes are kept ready. More are made again when they are asked for.
	maxTemplates = 64
	// makeTimeout bounds the making of one file system.
	makeTimeout = time.Minute
	// blockBytes is the size of its blocks.
	blockBytes = 4096
	// features and groups keep an empty file system in few pieces, since each is copied: no journal, no room to grow, no copies of the
	// superblock but two, and the tables of 16 GiB side by side.
	features, groups = "^has_journal,^resize_inode,sparse_super2", "128"
	// maxWords is how much is told of what a program said.
	maxWords = 512
)

// Store makes file systems. Its methods may be called at the same time.
type Store struct {
	dir     string
	program string
	// tree holds the directories that every file system begins with.
	tree string

	mu        sync.Mutex
	templates map[int64]*template
	// sizes are those of templates, the one that was asked for last at the end.
	sizes []int64
}

// template is an empty file system of one size, which others are copied from.
type template struct {
	path string
	// making is held by who makes it, made says that it is there.
	making chan struct{}
	made   bool
	// users is how many are making it or copying it: it stays as long. It is guarded by Store.mu.
	users int
}

// Open returns a Store that keeps its templates in dir, which it empties: a template that was being written when the machine
// went down must not be used. Every file system begins with the directories of these names, empty and open to nobody but the machine's
// root: they come with the copy, while to make one in a new file system has the kernel read and set up tables there.
func Open(dir string, names ...string) (*Store, error) {
	program, err := find("mkfs.ext4")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, program: program, tree: filepath.Join(dir, "tree"), templates: map[int64]*template{}}
	if err := os.Mkdir(s.tree, 0o755); err != nil {
		return nil, err
	}
	for _, n := range names {
		if err := os.Mkdir(filepath.Join(s.tree, n), 0o700); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// find looks for a program also where only root's PATH does.
func find(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (package e2fsprogs)", name)
}

// Make writes an empty file system of at most this size to a file. One that is there already is replaced.
func (s *Store) Make(ctx context.Context, path string, size int64) error {
	size = size / blockBytes * blockBytes
	if size < MinBytes || size > MaxBytes {
		return fmt.Errorf("a file system of %d bytes: want %d to %d", size, int64(MinBytes), int64(MaxBytes))
	}
	t := s.take(size)
	defer s.release(t)
	if err := s.ready(ctx, t, size); err != nil {
		return err
	}
	return sparse.Copy(ctx, path, t.path, 0)
}

// take returns the template of a size, made or not, for who gives it back.
func (s *Store) take(size int64) *template {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.templates[size]
	if t == nil {
		t = &template{path: filepath.Join(s.dir, strconv.FormatInt(size, 10)+".ext4"), making: make(chan struct{}, 1)}
		s.templates[size] = t
	}
	t.users++
	s.sizes = append(slices.DeleteFunc(s.sizes, func(n int64) bool { return n == size }), size)
	return t
}

// release gives a template back, and removes those that were not asked for in the longest time, when there are too many.
func (s *Store) release(t *template) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.users--
	s.sizes = slices.DeleteFunc(s.sizes, func(n int64) bool {
		old := s.templates[n]
		if len(s.templates) <= maxTemplates || old.users > 0 {
			return false
		}
		delete(s.templates, n)
		_ = os.Remove(old.path) // What is left of it is in the way of nothing.
		return true
	})
}

// ready makes a template unless it is there. Of those who want the same one makes it, and the others wait.
func (s *Store) ready(ctx context.Context, t *template, size int64) error {
	select {
	case t.making <- struct{}{}:
		defer func() { <-t.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.made {
		return nil
	}
	if err := s.make(ctx, t.path, size); err != nil {
		return err
	}
	t.made = true
	return nil
}

// make writes an empty file system to a file.
func (s *Store) make(ctx context.Context, path string, size int64) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, "-q", "-F", "-m", "0", "-b", strconv.Itoa(blockBytes), "-N", strconv.FormatInt(max(size/BytesPerFile, 64), 10),
		"-O", features, "-G", groups, "-E", "lazy_itable_init=1,nodiscard", "-d", s.tree, temp)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if said, err := cmd.CombinedOutput(); err != nil {
		said = bytes.TrimSpace(said)
		return fmt.Errorf("%s: %w: %s", filepath.Base(s.program), err, said[:min(len(said), maxWords)])
	}
	return os.Rename(temp, path)
}

// Used returns how many bytes of a mounted file system are taken.
func Used(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, nil
}

// Supported tries it: a file system is made and mounted below dir, written to and removed.
func (s *Store) Supported(ctx context.Context, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	image, target := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	defer func() { err = errors.Join(err, Unmount(target), os.RemoveAll(dir)) }()
	if err := errors.Join(s.Make(ctx, image, MinBytes), os.Mkdir(target, 0o700)); err != nil {
		return err
	}
	if err := Mount(image, target); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(target, "file"), []byte("x"), 0o600)
}
