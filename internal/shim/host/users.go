package host

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/userns"
)

// users is the user namespace that the sandbox is to live in, while its runtime starts. The bundle, which was written before there was one,
// names a link to a descriptor of this process: so nothing keeps the namespace but this process, and then those of the sandbox.
type users struct {
	ns   *os.File
	link string
}

// makeUsers makes the namespace; nil where the runtime makes one.
func (s *sandbox) makeUsers() (*users, error) {
	ids := s.cfg.IDs
	if ids == nil {
		return nil, nil
	}
	ns, err := userns.New(ids.First, syscall.SysProcIDMap{HostID: ids.First, Size: ids.Count})
	if err != nil {
		return nil, err
	}
	u := &users{ns: ns, link: shim.UserNamespace(s.cfg.Bundle)}
	if err := os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()), u.link); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return u, nil
}

// leave ends what only the runtime needed.
func (u *users) leave() error {
	if u == nil {
		return nil
	}
	return errors.Join(os.Remove(u.link), u.ns.Close())
}
