package local

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// allWatches makes instances of inotify until there are none, in processes of many users of the sandbox, tells how many and keeps them.
const allWatches = `
import ctypes, os, time
c = ctypes.CDLL(None, use_errno=True)
all, i = 0, 0
while True:
    r, w = os.pipe()
    if os.fork() == 0:
        if i: os.setuid(i)
        n = 0
        while c.inotify_init() >= 0: n += 1
        os.write(w, b"%d" % n)
        time.sleep(36000)
    os.close(w)
    n = int(os.read(r, 32))
    os.close(r)
    all, i = all + n, i + 1
    if n == 0: break
with open("/tmp/new", "w") as f: f.write(str(all))
os.rename("/tmp/new", "/tmp/all")
time.sleep(36000)`

// TestFileWatches: a sandbox that makes all instances of inotify that it gets has what the machine allows one user, and takes none of its
// neighbour's and of root's.
func TestFileWatches(t *testing.T) {
	data, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			b := open(t, withRuntime(runtime))
			var ids []string
			for range 2 {
				w := work("python3", "-c", allWatches)
				w.Spec.ResourceDefaults.MemoryLimit = proto.String("1Gi")
				ids = append(ids, b.launch(w))
			}
			for _, id := range ids {
				r := b.shell(id, "while ! [ -e /tmp/all ]; do sleep 0.05; done; cat /tmp/all")
				if got, err := strconv.Atoi(r.out); err != nil || got != limit {
					t.Errorf("a sandbox got %+v instances, not the %d of one user", r, limit)
				}
			}
			b.rootWatches()
		})
	}
}

// rootWatches: root can make an instance. It shares its own with all that root runs on the machine, which may take a moment.
func (b *testBackend) rootWatches() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err == nil {
			_ = unix.Close(fd)
			return
		}
		if time.Now().After(deadline) {
			b.t.Errorf("root gets none: %v", err)
			return
		}
	}
}
