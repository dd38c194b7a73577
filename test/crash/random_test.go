//go:build crash

package crash

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	// envSeed repeats the moments of a run.
	envSeed = "BERM_CRASH_SEED"
	// randomKills is how often one machine dies, each time within maxUp of the beginning of work.
	randomKills = 8
	maxUp       = 400 * time.Millisecond
)

// TestRandomKills kills the server at moments that nobody chose, again and again on the same data.
func TestRandomKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(envSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", envSeed, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	layout, hub := newImage(t)
	m := newMachine(t, "", append([]string{"--image-alias", imageRef + "=oci:" + layout.Dir}, hub.flags(t)...)...)
	w := newWork(m, hub)
	m.mustStart()
	w.prepare()
	for range randomKills {
		m.mustStart()
		process := m.cmd.Process
		kill := time.AfterFunc(time.Duration(random.Int64N(int64(maxUp))), func() { _ = process.Signal(syscall.SIGKILL) })
		w.operate()
		kill.Stop()
		m.end(syscall.SIGKILL)
	}
	m.mustStart()
	w.verify()
	t.Logf("%d kills, %d calls cut, %s", randomKills, m.cut.Load(), w)
}
