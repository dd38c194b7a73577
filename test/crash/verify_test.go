//go:build crash

package crash

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// amounts are what a runner has free, or what is reserved on it.
type amounts struct{ cpuMillis, memoryBytes, sandboxes int64 }

// verify checks every invariant, and ends everything.
func (w *work) verify() {
	m, t := w.m, w.m.t
	t.Helper()
	w.matchLaunches()
	w.settle()
	w.truth()
	if s := w.base.status(m); s != "RUNNING" {
		t.Errorf("the sandbox that nobody ended is %s", s)
	}
	w.alive()
	w.reserved()
	w.config.verify()
	w.audit()
	w.usable()
	for _, l := range w.lives {
		if v := m.get(l.id); v != nil && !v.ended() {
			w.delete(l)
		}
	}
	w.settle()
	w.truth()
	w.reserved()
	if stay := len(w.lives)%2 == 0; stay { // In other cases the server is ended in the middle of that.
		w.cool()
		w.cleaned()
	}
	m.end(syscall.SIGTERM)
	var left []string
	if !m.until(func() bool { left = m.leaks(); return len(left) == 0 }) {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	for _, p := range m.allPlaces() {
		if half := p.unpacking(); len(half) > 0 {
			t.Errorf("half of images is left: %q", half)
		}
	}
}

// matchLaunches gives launches that were not answered the sandboxes that they made, by their tags.
func (w *work) matchLaunches() {
	t := w.m.t
	t.Helper()
	byTag := map[string]*life{}
	for _, l := range w.lives {
		byTag[l.tag] = l
	}
	listed := w.m.list()
	seen := map[string]bool{}
	for id := range listed {
		v := w.m.get(id)
		if v == nil || len(v.Tags) != 1 || byTag[v.Tags[0]] == nil {
			t.Fatalf("sandbox %s was never asked for: %+v", id, v)
		}
		l := byTag[v.Tags[0]]
		if seen[l.tag] || (l.id != "" && l.id != id) {
			t.Errorf("launch %s made two sandboxes, one is %s", l.tag, id)
		}
		seen[l.tag] = true
		l.confirmed, l.id = l.id != "", id
	}
	for _, l := range w.lives {
		if l.id != "" && !seen[l.tag] {
			t.Errorf("sandbox %s (%s) was confirmed and is lost", l.id, l.tag)
		}
	}
	w.lives = slices.DeleteFunc(w.lives, func(l *life) bool { return l.id == "" })
}

// settled reports whether a sandbox is in a state that lasts.
func (l *life) settled(v *view) bool {
	return v != nil && (v.ended() || (v.Status == "RUNNING" || v.Status == "PAUSED") && !l.ends && !l.endTold)
}

// settle waits until every sandbox is in a state that lasts.
func (w *work) settle() {
	for _, l := range w.lives {
		if !w.m.until(func() bool { return l.settled(w.m.get(l.id)) }) {
			w.m.t.Errorf("sandbox %s (%s) stays %+v", l.id, l.tag, w.m.get(l.id))
		}
	}
}

// alive checks that what runs can be used, has one shim, and has what was written.
func (w *work) alive() {
	for _, l := range w.lives {
		if l.status(w.m) != "RUNNING" {
			continue
		}
		n := shims(l.id)
		content, read := w.m.file(l.id, fileName)
		if l.status(w.m) != "RUNNING" {
			continue // it ended meanwhile
		}
		if n != 1 && l.kind != warm { // a prepared one was named before it had its id
			w.m.t.Errorf("sandbox %s (%s) runs with %d shims", l.id, l.tag, n)
		}
		if l == w.base {
			w.noneHeld()
			w.keptOnce()
		}
		if l.wrote && (!read || content != fileText) {
			w.m.t.Errorf("sandbox %s (%s): what was written to it is %q, %v", l.id, l.tag, content, read)
		}
	}
}

// noneHeld checks that a command whose caller, or whose server, is gone does not run on.
func (w *work) noneHeld() {
	count := `for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$f"; echo; done 2>/dev/null | grep -c '` + heldPattern + `'`
	var out string
	if !w.m.until(func() bool { out, _ = w.m.exec(w.base.id, count+" || true"); return out == "0\n" }) {
		w.m.t.Errorf("commands that nobody waits for run on: %q", out)
	}
}

func (l *life) status(m *machine) string {
	if v := m.get(l.id); v != nil {
		return v.Status
	}
	return ""
}

// available returns what each runner has free.
func (m *machine) available() map[string]amounts {
	m.t.Helper()
	var out struct {
		Runners []struct {
			RunnerID  string
			Resources struct {
				AvailableCPUMillicores, AvailableMemoryBytes int64 `json:",string"`
				RunningSandboxes                             int64
			}
		}
	}
	m.read("/v1beta2/runners?view=RUNNER_VIEW_FULL", &out)
	free := map[string]amounts{}
	for _, r := range out.Runners {
		free[r.RunnerID] = amounts{r.Resources.AvailableCPUMillicores, r.Resources.AvailableMemoryBytes, r.Resources.RunningSandboxes}
	}
	return free
}

// reserved checks that what is reserved on each runner is what lives there.
func (w *work) reserved() {
	var free, want map[string]amounts
	ok := w.m.until(func() bool { // An end can come between the two questions.
		free, want = w.m.available(), map[string]amounts{}
		for name, all := range w.free {
			if _, there := free[name]; there {
				want[name] = all
			}
		}
		for _, l := range w.lives {
			v := w.m.get(l.id)
			if a, there := want[v.RunnerID]; there && !v.ended() {
				want[v.RunnerID] = amounts{a.cpuMillis - cpuMillis, a.memoryBytes - memoryBytes, a.sandboxes + 1}
			}
		}
		return fmt.Sprint(free) == fmt.Sprint(want)
	})
	if !ok {
		w.m.t.Errorf("the runners have free %v, and %v without what lives", free, want)
	}
}

// usable checks that the machine does what it did before.
func (w *work) usable() {
	m, t := w.m, w.m.t
	host, img := w.launch(idles, "local"), w.launch(image, "local")
	for _, l := range []*life{host, img} {
		l.confirmed = true
		if !m.until(func() bool { return l.status(m) == "RUNNING" }) {
			t.Errorf("a new sandbox does not run: %+v", m.get(l.id))
		}
	}
	if out, ok := m.exec(host.id, "echo hi"); !ok || out != "hi\n" {
		t.Errorf("a command in a new sandbox printed %q, %v", out, ok)
	}
	if text, ok := m.file(img.id, "/srv/data"); !ok || text != imageText {
		t.Errorf("a file of the image is %q, %v", text, ok)
	}
}

// cleaned checks that the server takes away what ended sandboxes left, shims and records, while it goes on.
func (w *work) cleaned() {
	var left []string
	ok := w.m.until(func() bool {
		left = nil
		for _, p := range w.m.allPlaces() {
			left = append(left, p.left()...)
		}
		for _, l := range w.lives {
			if shims(l.id) > 0 {
				left = append(left, "shim of "+l.tag)
			}
		}
		return len(left) == 0
	})
	if !ok {
		w.m.t.Errorf("not cleaned up after the end: %q", left)
	}
}
