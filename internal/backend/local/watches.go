package local

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What this machine lets all processes have of inotify that root's user namespaces hold, those of all sandboxes among them: below these, one
// sandbox can leave nothing to the others and to the machine's own services. See docs/adr/0018.
const (
	wantedWatchInstances = 1 << 16
	wantedWatches        = 1 << 20
)

// tellOfWatches says which of the machine's settings are too low for sandboxes that share them.
func (b *Backend) tellOfWatches(root string) {
	for name, want := range map[string]int{"max_user_instances": wantedWatchInstances, "max_user_watches": wantedWatches} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // A kernel without file watches has none to be short of.
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && n < want {
			b.log.Warn("one sandbox can take all file watches of this machine's root and of the other sandboxes: the kernel counts them together",
				"raise", "sysctl -w fs.inotify."+name+"="+strconv.Itoa(want), "now", n)
		}
	}
}

// inotifySettings is where the kernel has them.
const inotifySettings = "/proc/sys/fs/inotify"
