package image

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/userns"
)

const (
	// idsMapped is the size of the range of ids.
	idsMapped = MaxID + 1
	// maxKept is how many user namespaces are kept open. Ranges are reused lowest first, so few serve most starts.
	maxKept = 64
)

// userNamespaces makes user namespaces that nobody lives in: a mount takes its id mapping from one.
type userNamespaces struct {
	mu   sync.Mutex
	open map[uint32]*os.File
}

// get returns a user namespace that maps 0 to base. It stays open until the next call that needs the room, or close.
func (u *userNamespaces) get(base uint32) (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f, ok := u.open[base]; ok {
		return dup(f)
	}
	f, err := userns.New(os.Geteuid(), syscall.SysProcIDMap{ContainerID: 0, HostID: int(base), Size: idsMapped})
	if err != nil {
		return nil, err
	}
	if u.open == nil {
		u.open = map[uint32]*os.File{}
	}
	for k, old := range u.open {
		if len(u.open) < maxKept {
			break
		}
		old.Close()
		delete(u.open, k)
	}
	u.open[base] = f
	return dup(f)
}

// dup gives the caller a handle of its own: another caller may close this one.
func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (u *userNamespaces) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k, f := range u.open {
		f.Close()
		delete(u.open, k)
	}
}
