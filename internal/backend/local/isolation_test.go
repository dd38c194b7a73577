package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/bundle"
)

// script checks expressions of a shell inside a sandbox.
//
// gvisor is what is to be seen where the sandbox has that kernel, if it is something else.
type script struct{ name, run, want, gvisor string }

// TestInside looks at a sandbox from inside.
func TestInside(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		id := b.launch(w)
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("of the machine"), 0o644); err != nil {
			t.Fatal(err)
		}
		s, _ := b.get(id)
		for _, c := range []script{
			{"ids", "cat /proc/self/uid_map | tr -s ' '", fmt.Sprintf(" 0 %d %d\n", base(s.ids), bundle.IDsPerSandbox), " 0 0 4294967295\n"},
			{"who", "id -u; id -g", "0\n0\n", ""},
			{"host name", "hostname; cat /etc/hostname", hostname(id) + "\n" + hostname(id) + "\n", ""},
			{"no new privileges, a filter", "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'", "NoNewPrivs:1\nSeccomp:2\n", "Seccomp:2\n"},
			// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, over its own ids alone.
			{"capabilities", "grep -E '^Cap(Eff|Bnd|Amb)' /proc/self/status | tr -d '\\t'", "CapEff:00000000000004fb\nCapBnd:00000000000004fb\nCapAmb:0000000000000000\n", "CapEff:00000000000004fb\nCapBnd:00000000000004fb\n"},
			{"open files", "ulimit -n; ulimit -c", fmt.Sprintf("%d\n0\n", b.machine.openFiles), ""},
			{"no more of them", fmt.Sprintf("bash -c 'ulimit -Hn %d || ulimit -Hc 1 || echo refused' 2>/dev/null", b.machine.openFiles+1), "refused\n", ""},
			{"only loopback", `python3 -c 'import socket; print(*(name for _, name in socket.if_nameindex()))'`, "lo\n", ""},
			{"no routes", "tail -n +2 /proc/net/route; cat /proc/net/ipv6_route | grep -v ' lo$'", "", ""},
			{"loopback works", `python3 -c '
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
socket.create_connection(s.getsockname()).close(); print("ok")'`, "ok\n", ""},
			{"nothing else does", `python3 -c '
import socket
for a in ("192.0.2.1", "10.0.0.1", "169.254.169.254", "8.8.8.8"):
    try: socket.create_connection((a, 80), timeout=2); print("connected to", a)
    except OSError as e: print(e.errno)
try: socket.getaddrinfo("example.com", 80); print("a name was resolved")
except OSError: print("no names")'`, "101\n101\n101\n101\nno names\n", "113\n113\n113\n113\nno names\n"},
			{"no other families", `python3 -c '
import socket
for f in (socket.AF_PACKET, 38, 40):
    try: socket.socket(f, socket.SOCK_RAW); print("family", f)
    except OSError as e: print(e.errno)'`, "97\n97\n97\n", "1\n97\n97\n"},
			{"root is read-only", "touch /x /etc/x /usr/x 2>&1 | grep -c 'Read-only'; echo x 2>/dev/null >> /usr/bin/python3 || echo refused", "3\nrefused\n", ""},
			{"private directories", "for d in /tmp /home /root /workspace /run /var/tmp /dev/shm; do echo hi > $d/f && cat $d/f; done | sort | uniq -c | tr -d ' '", "7hi\n", ""},
			{"host files", "cat " + secret + " /etc/shadow 2>&1 | grep -c 'No such'; echo /home/* /mnt/* /opt/* /root/* /srv/* /var/lib/*", "2\n/home/f /mnt/* /opt/* /root/f /srv/* /var/lib/*\n", ""},
			{"made-up accounts", "grep -c . /etc/passwd; grep ^root /etc/passwd", "4\nroot:x:0:0:root:/root:/bin/bash\n", ""},
			{"no name server", "cat /etc/resolv.conf", "", ""},
			{"certificates", "test -s /etc/ssl/certs/ca-certificates.crt && echo there", "there\n", ""},
			{"devices", "cd /dev && echo * | tr ' ' '\\n' | grep -v -e '^fd$' -e '^std' -e '^core$' | tr '\\n' ' '", "berm-init full mqueue null ptmx pts random shm tty urandom zero ",
				"berm full fuse net null ptmx pts random shm tty urandom zero "},
			{"no sysfs, no cgroups", "echo /sys/*", "/sys/*\n", "/sys/block /sys/bus /sys/class /sys/dev /sys/devices /sys/firmware /sys/fs /sys/kernel /sys/module /sys/power\n"}, // gVisor's own, without anything of the machine,
			{"masked", "cat /proc/kcore /proc/keys /proc/timer_list /proc/cmdline /proc/kallsyms 2>/dev/null | wc -c", "0\n", "39\n"},                                              // its own command line
			{"proc is read-only where it matters", "echo 1 > /proc/sys/kernel/core_pattern; echo 1 > /proc/sysrq-trigger; true", "", ""},
			{"other processes", "test $(cd /proc && echo * | tr ' ' '\\n' | grep -c '^[0-9]') -lt 12 && echo few", "few\n", ""},
			{"control group", "cut -d: -f3 /proc/self/cgroup | sort -u; echo end", "/\nend\n", "end\n"},
			{"python", "python3 -c 'import ssl, json, sqlite3, subprocess; print(subprocess.check_output([\"echo\", \"x\"]).decode().strip())'", "x\n", ""},
			{"bash jobs", "bash -c 'sleep 0 & wait %1 && echo done'", "done\n", ""},
			{"work directory", "pwd", hostWorkDir + "\n", ""},
		} {
			if runtime == "runsc" && c.gvisor != "" {
				c.want = c.gvisor
			}
			if r := b.shell(id, c.run); r.out != c.want {
				t.Errorf("%s: got %q (stderr %q), want %q", c.name, r.out, r.err, c.want)
			}
		}
	})
}

// TestTools: what people use in a sandbox works under the filter.
func TestTools(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		id := b.launch(w)
		for name, run := range map[string]string{
			"git":          "cd /tmp && git init -q r && cd r && git config user.email a@b && git config user.name n && echo x > f && git add f && git commit -qm m && git log --oneline | wc -l",
			"threads":      "python3 -c 'import threading; t = [threading.Thread(target=print) for _ in range(50)]; [x.start() for x in t]; [x.join() for x in t]'",
			"processes":    "python3 -c 'import multiprocessing as m; print(sum(m.Pool(4).map(abs, range(100))))'",
			"awk and sed":  "echo a b | awk '{print $2}' | sed s/b/c/",
			"tar":          "cd /tmp && mkdir -p t && echo x > t/f && tar czf t.tgz t && tar tzf t.tgz",
			"su and chown": "touch /tmp/mine && chown 1000:1000 /tmp/mine && setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'echo x > /tmp/mine && id -u'",
			"compiler":     "cd /tmp && printf 'int main(){return 0;}' > m.c && cc m.c -o m && ./m && echo ok",
			"debugger":     "cd /tmp && python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(0, 0, 0, 0))'",
			"sockets":      "python3 -c 'import socket; a, b = socket.socketpair(); a.send(b\"x\"); print(b.recv(1))'",
			"semaphores":   "python3 -c 'import multiprocessing as m; s = m.Semaphore(1); s.acquire(); s.release()'",
		} {
			if r := b.shell(id, run); r.code != 0 || (name != "threads" && name != "semaphores" && r.out == "") {
				t.Errorf("%s: exit %d, %q %q", name, r.code, r.out, r.err)
			}
		}
	})
}

// TestForbidden: calls that the filter refuses, tried by number through libc.
func TestForbidden(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id := b.launch(work())
	const eperm, enosys = 1, 38
	for name, c := range map[string]struct {
		nr   int
		args string
		want int
	}{
		"mount": {165, "0,0,0,0,0", eperm}, "unshare a user namespace": {272, "0x10000000", eperm}, "setns": {308, "0,0", eperm},
		"keyctl": {250, "0,0,0,0,0", eperm}, "bpf": {321, "0,0,0", eperm}, "perf_event_open": {298, "0,0,0,0,0", eperm}, "userfaultfd": {323, "0", eperm},
		"kexec_load": {246, "0,0,0,0", eperm}, "io_uring_setup": {425, "1,0", eperm}, "init_module": {175, "0,0,0", eperm}, "reboot": {169, "0,0,0,0", eperm},
		"pivot_root": {155, "0,0", eperm}, "open_by_handle_at": {304, "0,0,0", eperm}, "syslog": {103, "10,0,0", eperm},
		"clone with a user namespace": {56, "0x10000011,0,0,0,0", enosys}, "clone3": {435, "0,0", enosys}, "a call of the future": {999, "0", enosys},
		"personality of another machine": {135, "0x0006", enosys},
	} {
		run := fmt.Sprintf("import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nr = c.syscall(%d,%s)\nprint(r, ctypes.get_errno())", c.nr, c.args)
		r := b.exec(id, "python3", "-c", run)
		if want := fmt.Sprintf("-1 %d\n", c.want); r.out != want {
			t.Errorf("%s: %q %q, want %q", name, r.out, r.err, want)
		}
	}
}

// TestNeighbours: two sandboxes share nothing that either could reach the other through.
func TestNeighbours(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		one, two := b.launch(work()), b.launch(work())
		b.shell(one, "echo secret > /dev/shm/f; echo secret > /tmp/f; ipcmk -M 100 >/dev/null 2>&1; true")
		server := `python3 -c '
import socket, time
s = socket.socket(socket.AF_UNIX); s.bind("\0berm-test"); s.listen(); t = socket.socket(); t.bind(("127.0.0.1", 4567)); t.listen(); print("up", flush=True); time.sleep(600)' > /tmp/out &
while ! grep -q up /tmp/out; do :; done`
		if r := b.shell(one, server); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		client := `python3 -c '
import socket
for a, f in (("\0berm-test", socket.AF_UNIX), (("127.0.0.1", 4567), socket.AF_INET)):
    s = socket.socket(f)
    try: s.connect(a); print("connected", a)
    except OSError as e: print(e.errno)'`
		if r := b.shell(one, client); strings.Count(r.out, "connected") != 2 {
			t.Fatalf("the test's own server does not answer: %+v", r)
		}
		if r := b.shell(two, client); r.out != "111\n111\n" {
			t.Errorf("a neighbour's sockets: %+v", r)
		}
		if r := b.shell(two, "echo /tmp/* /dev/shm/*; ipcs -m | grep -c ^0x; true"); r.out != "/tmp/* /dev/shm/*\n0\n" {
			t.Errorf("a neighbour's files and memory: %+v", r)
		}
		s1, _ := b.get(one)
		s2, _ := b.get(two)
		if s1.ids == s2.ids {
			t.Error("both have the same range of ids")
		}
	})
}

// TestMountedFiles: they are there for the main process, cannot be changed, and appear wherever they may.
func TestMountedFiles(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		w := work()
		paths := []string{"/workspace/in/tmpfs", "/tmp/f", "/etc/app/config", "/data/deep/er/f", "/top", "/etc/hosts", "/opt/x"}
		for _, p := range paths {
			w.Launch.MountedFiles = append(w.Launch.MountedFiles, &specpb.MountedFile{Path: p, Content: []byte("content of " + p)})
		}
		id := b.launch(w)
		for _, p := range paths {
			if r := b.exec(id, "cat", p); r.out != "content of "+p {
				t.Errorf("%s: %+v", p, r)
			}
			if r := b.shell(id, "echo changed > "+p+" || rm -f "+p+" || mv "+p+" /tmp/gone || chmod 777 "+p); r.code == 0 {
				t.Errorf("%s was changed: %+v", p, r)
			}
		}
		// What is shown is not the state directory: nothing else of it is to be seen.
		if r := b.shell(id, "cat /proc/self/mountinfo"); strings.Contains(r.out, "work.json") || r.out == "" {
			t.Errorf("%s", r.out)
		}
	})
}
