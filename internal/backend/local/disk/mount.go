package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// loopTries is how often a free loop device is looked for: others take them at the same time.
	loopTries = 64
	// loopMajor is the number of their driver.
	loopMajor = 7
	// mountOptions: nothing has to survive the machine, so nothing is flushed to its disk and its neighbours do not wait; what
	// is deleted is given back; tables of a sparse file are empty without being written. A file system that is found damaged is not
	// written to any more: what it says of itself is not to be gone by, and its sandbox is to know.
	mountOptions = "nobarrier,discard,noinit_itable,errors=remount-ro"
)

// Mount mounts the file system in a file, without set-user-id programs and devices. The loop device goes with the mount.
func Mount(image, target string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := attach(f)
	if err != nil {
		return fmt.Errorf("loop device: %w", err)
	}
	defer device.Close()
	if err := unix.Mount(device.Name(), target, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, mountOptions); err != nil {
		return &os.PathError{Op: "mount ext4", Path: target, Err: err}
	}
	failpoint.Hit(failMounted)
	return nil
}

// failMounted is passed by the trial of Supported too, and so at every start of a server.
const failMounted = "disk.mounted"

// Failpoints lists the failpoints of this package.
func Failpoints() []string { return []string{failMounted} }

// attach puts a file behind a loop device, which lasts as long as somebody has it open or mounted. Direct: the pages of the
// file itself would be a second copy, and nobody's memory.
func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: blockBytes}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	for try := 1; ; try++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("find a free one", err)
		}
		device, err := openLoop(n)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) || try == loopTries {
			return nil, os.NewSyscallError("configure", err)
		}
	}
}

// openLoop opens a loop device, whose node a machine without a file system of devices does not have.
func openLoop(n int) (*os.File, error) {
	path := "/dev/loop" + strconv.Itoa(n)
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return device, err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// Unmount undoes Mount, as often as it is called.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "umount", Path: target, Err: err}
	}
	return nil
}
