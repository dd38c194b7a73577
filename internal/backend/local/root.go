package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/image"
)

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// hostWorkDir is where commands run on the image "host".
	hostWorkDir = "/workspace"
	rootHome    = "/root"
)

// hostBox prepares the image "host": the shared skeleton, or one of the sandbox's own when mounted files need room outside
// its private file systems.
func (b *Backend) hostBox(x *boxed, s *sandbox, o *order, dir string) error {
	skeleton, err := b.host.Current()
	if err != nil {
		return imageFault(err)
	}
	x.bundle.Root, x.bundle.ReadOnly = skeleton.Path, true
	var own []string
	for _, f := range s.work.Launch.GetMountedFiles() {
		// gVisor makes its own file systems in memory, and looks for mount points of files below them in the root as well.
		if x.bundle.OwnKernel || !inTmpfs(f.GetPath()) {
			own = append(own, f.GetPath())
		}
	}
	if len(own) > 0 {
		x.bundle.Root = filepath.Join(dir, "root")
		if err := skeleton.Copy(x.bundle.Root, own); err != nil {
			return err
		}
	}
	if x.bundle.OwnKernel {
		if err := x.plainRoot(dir); err != nil {
			return err
		}
	}
	for _, m := range skeleton.Mounts {
		x.bundle.Binds = append(x.bundle.Binds, bundle.Bind{Source: m.Path, Target: m.Path, Dir: true, Exec: true})
	}
	if err := b.hostScratch(x, s, o, dir); err != nil {
		return err
	}
	x.bundle.Tmpfs = append(x.bundle.Tmpfs, bundle.Shm())
	sortTmpfs(x.bundle.Tmpfs)
	x.env, x.dir = []string{"PATH=" + defaultPath, "HOME=" + rootHome, "LANG=C.UTF-8"}, hostWorkDir
	return nil
}

// plainName is where plainRoot shows the root, in a box.
const plainName = "plain"

// plainRoot shows the root through a mount without the flags of the run directory's: gVisor makes the root read-only itself, in
// the sandbox's user namespace, where flags of the machine's mounts must not be dropped.
func (x *boxed) plainRoot(dir string) error {
	target := filepath.Join(dir, plainName)
	if err := bindDir(x.bundle.Root, target, 0); err != nil {
		return err
	}
	x.bundle.Root = target
	return nil
}

// imageBox mounts an image, and completes the command from its configuration.
func (b *Backend) imageBox(x *boxed, s *sandbox, o *order, img *image.Image, dir string) error {
	scratch := int64(0)
	if onDisk, err := b.mountDisk(s, o, dir); err != nil {
		return err
	} else if !onDisk {
		scratch = b.machine.tmpfsBytes(o.limits.MemoryBytes)
	}
	mounted, err := b.library.Layers().Mount(img, dir, base(s.ids), scratch)
	if err != nil {
		return imageFault(err)
	}
	fork := s.work.Launch.GetForkOf() != ""
	user, err := mounted.User(img.Config.User)
	if err != nil && fork { // Its past made something else of the accounts. Who its processes are was saved with them.
		user, err = image.User{Home: "/"}, nil
	}
	if err != nil {
		return imageFault(err)
	}
	x.dir = img.Config.WorkingDir
	if x.dir == "" {
		x.dir = "/"
	}
	if !fork { // Which has the directories that there were, and whatever its past made of them.
		if err := mounted.MakeDir(x.dir, base(s.ids), user); err != nil {
			return imageFault(fmt.Errorf("working directory: %w", err))
		}
	}
	if x.bundle.OwnKernel {
		if err := mounted.MakeDir(bundle.MeetDir, base(s.ids), image.User{}); err != nil {
			return imageFault(err)
		}
	}
	for _, f := range s.work.Launch.GetMountedFiles() {
		if fork {
			break
		}
		// Runtimes would make missing directories for root alone.
		if err := mounted.MakeDir(path.Dir(f.GetPath()), base(s.ids), image.User{}); err != nil {
			return fmt.Errorf("mounted file %s: %w", f.GetPath(), err)
		}
	}
	x.bundle.Root = mounted.Root()
	x.bundle.UID, x.bundle.GID, x.bundle.Groups = user.UID, user.GID, user.Groups
	x.bundle.Tmpfs = []bundle.Tmpfs{bundle.Shm()}
	x.env = mergeEnv([]string{"PATH=" + defaultPath, "HOME=" + user.Home}, img.Config.Env)
	x.entrypoint, x.cmd = img.Config.Entrypoint, img.Config.Cmd
	if len(x.mainOf(o)) == 0 && !o.idle {
		return imageFault(fmt.Errorf("image %s has neither entrypoint nor command, and the launch names no command", o.image))
	}
	return nil
}

// mergeEnv lays environments over one another, later ones winning, each name once and in the order of its first mention.
func mergeEnv(layers ...[]string) []string {
	at := map[string]int{}
	var out []string
	for _, e := range slices.Concat(layers...) {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			continue // An image can say anything; what is no assignment sets nothing.
		}
		if i, seen := at[name]; seen {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

// bindDir shows a directory, such as one of the state directory, which sandboxes cannot reach, read-only at a place that they can.
func bindDir(source, target string, flags uintptr) error {
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind mount", Path: target, Err: err}
	}
	err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
	if err != nil {
		return &os.PathError{Op: "make read-only", Path: target, Err: err}
	}
	return nil
}

// clearBox removes everything of a sandbox but its records: network, mounts, box, bundle. It can be repeated.
func (b *Backend) clearBox(slot string) error {
	dir := b.place.box(slot)
	err := errors.Join(b.disconnect(slot), image.Unmount(dir))
	for _, name := range []string{filesName, plainName} {
		p := filepath.Join(dir, name)
		if e := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); e != nil && !errors.Is(e, unix.EINVAL) && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, &os.PathError{Op: "umount", Path: p, Err: e})
		}
	}
	if err != nil {
		return err // Removing files below a mount that is still there would remove what it shows.
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(b.place.bundle(slot)), removeFile(b.place.disk(slot)))
}

func sortTmpfs(list []bundle.Tmpfs) {
	slices.SortFunc(list, func(a, b bundle.Tmpfs) int { return strings.Compare(a.Target, b.Target) })
}
