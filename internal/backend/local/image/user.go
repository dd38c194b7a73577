package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxAccountsBytes is how much of /etc/passwd and /etc/group is read, in bytes.
const maxAccountsBytes = 1 << 20

// User is who an image's processes run as, as ids of the sandbox.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// inside are the rules of walks in a mounted root: links are followed as in the sandbox, never out of it.
const inside = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// User finds the user that an image names: "", "name", "uid", either with ":group". Names are looked up in the image's own
// files, which are read as data that a stranger made.
func (r Rootfs) User(spec string) (User, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	u := User{Home: "/"}
	if user == "" {
		user = "0"
	}
	found, err := r.lookUp("etc/passwd", user, 2)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	if found == nil {
		id, err := parseID(user)
		if err != nil {
			return User{}, fmt.Errorf("user %q: the image has no such user", spec)
		}
		u.UID = id
	} else {
		if u.UID, err = parseID(found[2]); err != nil {
			return User{}, fmt.Errorf("user %q: %w", spec, err)
		}
		if u.GID, err = parseID(found[3]); err != nil {
			return User{}, fmt.Errorf("user %q: %w", spec, err)
		}
		if len(found) > 5 && path.IsAbs(found[5]) && !strings.ContainsRune(found[5], 0) {
			u.Home = found[5]
		}
		if !hasGroup {
			u.Groups, err = r.groupsOf(found[0])
		}
	}
	if err == nil && hasGroup {
		u.GID, err = r.group(group)
	}
	if u.UID == 0 && u.Home == "/" {
		u.Home = "/root"
	}
	return u, err
}

// group finds a group by name or number.
func (r Rootfs) group(name string) (uint32, error) {
	found, err := r.lookUp("etc/group", name, 2)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", name, err)
	}
	if found != nil {
		return parseID(found[2])
	}
	id, err := parseID(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: the image has no such group", name)
	}
	return id, nil
}

// groupsOf lists the groups that name a user as a member.
func (r Rootfs) groupsOf(user string) ([]uint32, error) {
	var groups []uint32
	err := r.accounts("etc/group", func(f []string) bool {
		if len(f) < 4 || len(groups) >= maxGroups {
			return false
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if id, err := parseID(f[2]); m == user && err == nil {
				groups = append(groups, id)
			}
		}
		return false
	})
	return groups, err
}

// maxGroups is how many supplementary groups a user may have.
const maxGroups = 64

// lookUp returns the fields of the first line whose name, or number in field at, is key; nil when there is none.
func (r Rootfs) lookUp(file, key string, at int) ([]string, error) {
	var found []string
	err := r.accounts(file, func(f []string) bool {
		if len(f) > at+1 && (f[0] == key || f[at] == key) {
			found = f
		}
		return found != nil
	})
	return found, err
}

// accounts calls line with the fields of each line until it says that this is enough. A missing file has no lines.
func (r Rootfs) accounts(file string, line func([]string) bool) error {
	f, err := r.open(file, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("/%s is no file", file)
	}
	s := bufio.NewScanner(io.LimitReader(f, maxAccountsBytes))
	for s.Scan() {
		if line(strings.Split(s.Text(), ":")) {
			return nil
		}
	}
	return s.Err()
}

// open opens a path of the root as the sandbox would see it.
func (r Rootfs) open(name string, flags uint64) (*os.File, error) {
	root, err := unix.Open(r.Root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.Root(), Err: err}
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: inside})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/" + strings.TrimPrefix(name, "/"), Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// MakeDir makes a directory and its parents in the root, owned by the user, where they are missing: the working directory
// of an image need not be in any layer.
func (r Rootfs) MakeDir(dir string, base uint32, user User) error {
	clean := path.Clean("/" + dir)
	for i := 1; i <= len(clean); i++ {
		if i < len(clean) && clean[i] != '/' {
			continue
		}
		if err := r.makeOne(clean[:i], int(base+user.UID), int(base+user.GID)); err != nil {
			return fmt.Errorf("directory %q: %w", dir, err)
		}
	}
	return nil
}

func (r Rootfs) makeOne(dir string, uid, gid int) error {
	f, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent, err := r.open(path.Dir(dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close()
	name := path.Base(dir)
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o755); err != nil {
		return err
	}
	return unix.Fchownat(int(parent.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > MaxID {
		return 0, fmt.Errorf("id %q: want a number from 0 to %d", s, MaxID)
	}
	return uint32(n), nil
}
