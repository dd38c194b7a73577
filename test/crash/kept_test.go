//go:build crash

package crash

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// keptFile has a line for each command that was kept, from that command itself.
const keptFile = "/tmp/kept"

// keep starts a command that is kept in the sandbox that nobody ends, asks for it again when there was no answer, and reads it.
func (w *work) keep() {
	path := "/berm/v1/sandboxes/" + w.base.id + "/execs"
	name := fmt.Sprintf("k-%d", time.Now().UnixNano())
	request := map[string]any{"exec_id": name, "command": []string{"sh", "-c", "echo " + name + " >> " + keptFile + "; echo " + name}, "overflow": "OVERFLOW_DROP_OLDEST"}
	_, code := w.m.call("POST", path, request)
	w.note(func() { w.kept[name] = code == http.StatusOK })
	if code == 0 {
		if _, again := w.m.call("POST", path, request); again == http.StatusOK {
			w.note(func() { w.kept[name] = true })
		}
	}
	_, _ = w.m.call("GET", path+"/"+name+"/output?wait=0.2s", nil)
}

// keptOnce checks that a command whose start was answered has run, and none more than once.
func (w *work) keptOnce() {
	var wrong []string
	if !w.m.until(func() bool {
		content, _ := w.m.file(w.base.id, keptFile)
		ran := map[string]int{}
		for line := range strings.Lines(content) {
			ran[strings.TrimSpace(line)]++
		}
		wrong = nil
		for name, answered := range w.kept {
			if n := ran[name]; n > 1 || answered && n == 0 {
				wrong = append(wrong, fmt.Sprintf("%s ran %d times, answered %v", name, n, answered))
			}
		}
		return len(wrong) == 0
	}) {
		w.m.t.Errorf("commands that are kept: %q", wrong)
	}
}
