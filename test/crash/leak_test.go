//go:build crash

package crash

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// places returns those of one runner.
func (m *machine) places(runner string) places {
	dir, err := filepath.EvalSymlinks(filepath.Join(m.data(), "runners", runner))
	if err != nil {
		m.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(dir))
	name := "berm-" + hex.EncodeToString(sum[:5])
	return places{dir: dir, name: name, run: filepath.Join("/run", name)}
}

func (m *machine) allPlaces() []places {
	dirs, _ := filepath.Glob(filepath.Join(m.data(), "runners", "*"))
	var all []places
	for _, d := range dirs {
		all = append(all, m.places(filepath.Base(d)))
	}
	return all
}

// leaks lists what a machine left outside its data directory. Every sandbox has ended, and the server too.
func (m *machine) leaks() []string {
	marks := []string{m.dir}
	var out []string
	for _, p := range m.allPlaces() {
		marks = append(marks, p.run)
		if exists(p.run) {
			out = append(out, "directory "+p.run)
		}
		for _, g := range p.groups() {
			out = append(out, "control group "+g)
		}
	}
	out = append(out, m.wires()...)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, mark := range marks {
		for _, line := range append(processes(), strings.Split(string(mounts), "\n")...) {
			if strings.Contains(line, mark) {
				out = append(out, line)
			}
		}
	}
	return out
}

// wires lists the links and the tables of rules that a machine left.
func (m *machine) wires() []string {
	links, err := netlink.LinkList()
	if err != nil {
		return []string{err.Error()}
	}
	rules, err := nftables.New()
	if err != nil {
		return []string{err.Error()}
	}
	tables, err := rules.ListTables()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range m.allPlaces() {
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, p.links()) {
				out = append(out, "link "+l.Attrs().Name)
			}
		}
		for _, t := range tables {
			if t.Name == p.name {
				out = append(out, "table "+t.Name)
			}
		}
	}
	return out
}

// links begins the names of a runner's links, as the local backend makes it.
func (p places) links() string {
	sum := sha256.Sum256([]byte(p.name))
	return "bm" + hex.EncodeToString(sum[:3])
}

// processes lists all processes of the machine with their command lines. Those of a sandbox whose shim is gone are found by their
// control group, which could not be removed.
func processes() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && len(raw) > 0 {
			out = append(out, "process "+filepath.Base(filepath.Dir(f))+": "+string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// shims counts the host-side processes of a sandbox.
func shims(id string) int {
	n := 0
	for _, line := range processes() {
		if strings.Contains(line, "berm-shim shim ") && strings.Contains(line, id) {
			n++
		}
	}
	return n
}

// mountedNamespaces lists the mounted network namespaces of the tests' own mount namespace. Without a process, only a mount keeps one.
func mountedNamespaces(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " - nsfs ") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestLeaksAreSeen leaves one of each behind, and finds it.
func TestLeaksAreSeen(t *testing.T) {
	m := newMachine(t, "")
	if err := os.MkdirAll(filepath.Join(m.data(), "runners", "local"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := m.places("local")
	if left := m.leaks(); len(left) > 0 {
		t.Fatalf("before anything ran there is %q", left)
	}
	pin, group := filepath.Join(m.dir, "netns"), filepath.Join(cgroupRoot, "pids", p.name)
	if !exists(filepath.Dir(group)) { // version 2
		group = filepath.Join(cgroupRoot, p.name)
	}
	before := mountedNamespaces(t)
	for _, err := range []error{os.Mkdir(p.run, 0o700), os.Mkdir(group, 0o755), os.WriteFile(pin, nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(p.run)
	defer os.Remove(group)
	if err := unix.Mount("/proc/self/ns/net", pin, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(pin, unix.MNT_DETACH) }()
	left := exec.Command("sleep", "3600")
	left.Args[0] = m.dir // its name among the processes
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = left.Process.Kill(); _ = left.Wait() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.links() + "x0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: p.links() + "x1"}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = netlink.LinkDel(&netlink.Veth{LinkAttrs: attrs}) }()
	rules, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := rules.AddTable(&nftables.Table{Name: p.name, Family: nftables.TableFamilyINet})
	if err := rules.Flush(); err != nil {
		t.Fatal(err)
	}
	defer func() { rules.DelTable(table); _ = rules.Flush() }()
	found := strings.Join(m.leaks(), "\n")
	for _, want := range []string{"link " + attrs.Name, "table " + p.name, "directory " + p.run, "control group " + group, fmt.Sprintf("process %d:", left.Process.Pid), pin} {
		if !strings.Contains(found, want) {
			t.Errorf("%s is not seen in:\n%s", want, found)
		}
	}
	if after := mountedNamespaces(t); len(after) != len(before)+1 {
		t.Errorf("mounted network namespaces: %q, then %q", before, after)
	}
}
