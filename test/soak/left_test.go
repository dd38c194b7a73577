package soak

import (
	"os"
	"path/filepath"
	"strings"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// nothingLeft expects that every sandbox has ended, where it is told and where it ran: no process, no mount, no control group.
func (w *world) nothingLeft() {
	w.Helper()
	w.until("no sandbox is told of", func() bool {
		list, err := w.client.Gateway().List(w.Context(), &v1beta2pb.ListSandboxesRequest{RunnerIds: []string{runnerID}})
		return err == nil && len(list.GetSandboxes()) == 0
	})
	w.until("no process of a sandbox is left", func() bool { return len(w.processes()) == 0 })
	w.until("no mount of a sandbox is left", func() bool {
		text, err := os.ReadFile("/proc/self/mountinfo")
		return err == nil && !strings.Contains(string(text), w.path("edge")+"/sandboxes/")
	})
}

// processes are the command lines of this runner's shims.
func (w *world) processes() (all []string) {
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	w.must(err)
	for _, path := range dirs {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "berm-shim") && strings.Contains(string(text), w.path("edge")) {
			all = append(all, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return all
}
