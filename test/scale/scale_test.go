package scale

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// envSandboxes is how many sandboxes there are in place of few.
const envSandboxes = "BERM_SCALE"

// few are enough to see that all of it works.
const few = 60

// TestManySandboxes has a runner keep sandboxes on a cluster, lose its gateway, and its process. Nothing of them is lost, asked for twice,
// or taken for something else. What it takes is printed: docs/benchmarks.md has the figures of many.
func TestManySandboxes(t *testing.T) {
	n := few
	if text := os.Getenv(envSandboxes); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("%s=%q is no number of sandboxes", envSandboxes, text)
		}
	}
	t.Run("reached", func(t *testing.T) { many(t, n, newCluster(true), "SANDBOX_STATUS_RUNNING") })
	// As with nodes that are made up in a real cluster: no init answers, so that nothing is said to run.
	t.Run("not reached", func(t *testing.T) { many(t, n, newCluster(false), "SANDBOX_STATUS_CREATING") })
}

func many(t *testing.T, n int, c *cluster, status string) {
	w := newWorld(t, c)
	w.startRunner()
	w.connected()
	t.Logf("a runner without sandboxes: %s", w.memory())

	began := time.Now()
	w.launch(n)
	t.Logf("%d sandboxes launched in %s", n, time.Since(began).Round(time.Millisecond))
	w.all(n, status)
	t.Logf("all are %s after %s", status, time.Since(began).Round(time.Millisecond))
	w.settle()
	t.Logf("%d sandboxes: %s", n, w.memory())

	lists, links := c.counts()
	for range 3 {
		w.way.cut()
		w.disconnected()
		t.Logf("resync of %d sandboxes, from the first connection on: %s", n, w.resync().Round(time.Millisecond))
	}
	w.all(n, status)
	if now, linked := c.counts(); now != lists || linked != links {
		t.Errorf("a line that was cut had the cluster asked: %d lists, %d connections to inits; before %d, %d", now, linked, lists, links)
	}

	w.killRunner()
	w.disconnected()
	began = time.Now()
	w.startRunner()
	w.connected()
	t.Logf("a runner that starts anew beside %d sandboxes is in contact after %s", n, time.Since(began).Round(time.Millisecond))
	w.all(n, status)
	if c.reached {
		w.until("every init is reached again", func() bool { _, linked := c.counts(); return linked >= links+n })
		t.Logf("and has reached every init after %s", time.Since(began).Round(time.Millisecond))
	}
	w.settle()
	t.Logf("%d sandboxes, a new process: %s", n, w.memory())
	if now, linked := c.counts(); c.reached && linked != links+n || now != lists+1 {
		t.Errorf("a new process made %d lists and %d connections to inits, want 1 and %d", now-lists, linked-links, n)
	}
	one := w.ids[0]
	w.stop(one)
	if got := w.awaitEnd(one); got != "SANDBOX_STATUS_COMPLETED" && got != "SANDBOX_STATUS_TERMINATED" {
		t.Errorf("one that was stopped is %s", got)
	}
	w.all(n-1, status)
}

// counts returns how often pods were listed, and inits connected to.
func (c *cluster) counts() (lists, links int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists, c.links
}

func (m memory) String() string {
	return fmt.Sprintf("%.1f MB resident (%.1f MB at most), of that %.1f MB of files; %.1f MB of heap live at the last collection", m.resident, m.peak, m.files, m.heap)
}
