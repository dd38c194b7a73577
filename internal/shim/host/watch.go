package host

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/bermhq/berm/internal/shim"
)

// watchInterval is how soon a shim notices that its state directory is gone. It asks, because inotify instances are few (128
// for a user by default) and there is a shim for every sandbox.
const watchInterval = 5 * time.Second

// watch ends the sandbox when somebody removes its state directory: nobody could find it any more, or learn of its end.
func (s *sandbox) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for range ticker.C {
		if _, err := os.Lstat(shim.ConfigFile(s.cfg.Dir)); errors.Is(err, fs.ErrNotExist) {
			break // Anything else, an error of the disk for one, may pass.
		}
	}
	s.logf("the state directory is gone: ending the sandbox")
	close(s.unattended)
	s.requestStop(0)
}
