package local

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/cgroup"
)

// storage is a work that may write so much, in far less memory.
func storage(limit string) *backend.Work {
	w := work()
	w.Spec.ResourceDefaults = &specpb.ResourceDefaults{MemoryLimit: proto.String("64Mi"), EphemeralStorageLimit: proto.String(limit)}
	return w
}

// TestDiskFill: a full disk is full inside and nowhere else, is no memory, and can be used again.
func TestDiskFill(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		b := open(t, withRuntime(runtime))
		id, other := b.launch(storage("256Mi")), b.launch(storage("256Mi"))
		if runtime == "runsc" { // more memory than that is gVisor's own
			b.isRunning(id)
		}
		// All its directories share the limit.
		r := b.shell(id, "head -c 150M /dev/zero > /tmp/a && head -c 150M /dev/zero > /workspace/b")
		if r.code == 0 || !strings.Contains(r.err, "No space left") {
			t.Errorf("%+v", r)
		}
		u, err := b.Usage(t.Context(), id)
		if err != nil || u.DiskBytes < 240<<20 || u.DiskBytes > 256<<20 {
			t.Errorf("%+v %v", u, err)
		}
		if r := b.shell(other, "head -c 100M /dev/zero > /home/f && echo fine"); r.out != "fine\n" {
			t.Errorf("the other one: %+v", r)
		}
		if err := b.WriteFile(t.Context(), id, "/tmp/more", 0o644, strings.NewReader(strings.Repeat("x", 1<<20))); !fault.HasReason(err, fault.ReasonFileIOFailed) {
			t.Errorf("a file into a full disk: %v", err)
		}
		if r := b.shell(id, "rm /tmp/a && head -c 50M /dev/zero > /root/c && echo again"); r.out != "again\n" {
			t.Errorf("%+v", r)
		}
		if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		b.ended(id)
		s, err := b.get(id)
		if err != nil {
			t.Fatal(err)
		}
		if <-s.released; exists(b.place.disk(s.slot)) {
			t.Error("what it wrote is kept after its end")
		}
	})
}

// TestInodeFill: files are used up inside and nowhere else.
func TestInodeFill(t *testing.T) {
	b := open(t, withRuntime("crun"))
	id, other := b.launch(storage("32Mi")), b.launch(storage("32Mi"))
	r := b.exec(id, "python3", "-c", `
n = 0
try:
    while n < 100000:
        open('/tmp/%d' % n, 'w').close()
        n += 1
except OSError as e: print(e.errno, n < 10000)`)
	if r.out != "28 True\n" {
		t.Errorf("%+v", r)
	}
	if r := b.shell(other, "echo x > /tmp/f && cat /tmp/f"); r.out != "x\n" {
		t.Errorf("the other one: %+v", r)
	}
	if r := b.shell(id, "rm -r /tmp/1*; echo x > /tmp/f && cat /tmp/f"); r.out != "x\n" {
		t.Errorf("%+v", r)
	}
}

// TestDiskOfImages: what is written over an image counts too.
func TestDiskOfImages(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: [][]byte{buildTool(t)}, Config: v1.Config{Cmd: []string{"/bin/tool", "idle"}}})
	b := open(t, withRuntime("crun"), func(c *Config) { c.Images = map[string]string{"tool": "oci:" + l.Dir} })
	w := imageWork("tool")
	w.Spec.ResourceDefaults = storage("32Mi").Spec.ResourceDefaults
	id := b.launch(w)
	b.isRunning(id)
	mib := strings.Repeat("x", 1<<20)
	n := 0
	var err error
	for ; n < 64 && err == nil; n++ {
		err = b.WriteFile(t.Context(), id, filepath.Join("/data", "f"+strings.Repeat("i", n+1)), 0o644, strings.NewReader(mib))
	}
	if n < 24 || n > 32 || !fault.HasReason(err, fault.ReasonFileIOFailed) {
		t.Errorf("after %d MiB: %v", n, err)
	}
}

// TestWithoutDisk: where sandboxes have no disk, a limit is refused, and without one what is written is memory and bounded by it.
func TestWithoutDisk(t *testing.T) {
	b := open(t, withRuntime("crun"))
	b.machine.disk = false
	b.machine.lack(featureDisk, "no loop devices")
	err := b.Check(storage("1Gi"))
	if f := fault.From(err); !fault.HasReason(err, fault.ReasonBackendUnsupported) || len(f.Fields) != 1 || f.Fields[0].Path != "resource_defaults.ephemeral_storage_limit" ||
		!strings.Contains(f.Fields[0].Description, "no loop devices") {
		t.Errorf("%v", err)
	}
	w := work()
	w.Spec.ResourceDefaults.MemoryLimit = proto.String("64Mi")
	id := b.launch(w)
	if r := b.shell(id, "head -c 40M /dev/zero > /tmp/f"); r.code == 0 || !strings.Contains(r.err, "No space left") {
		t.Errorf("%+v", r)
	}
	if r := b.shell(id, "rm /tmp/f; echo alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
	if caps := capabilities(machine{cgroup: cgroup.V1, lacks: b.machine.lacks}, nil); !strings.Contains(capabilityOf(caps, featureDisk).String(), "no loop devices") {
		t.Errorf("%v", caps)
	}
}

func capabilityOf(rows []Capability, feature string) Capability {
	for _, c := range rows {
		if c.Feature == feature {
			return c
		}
	}
	return Capability{}
}

// TestPIDsLimit: the spec's own limit holds.
func TestPIDsLimit(t *testing.T) {
	b := open(t, withRuntime("crun"))
	w := work()
	w.Spec.ResourceDefaults.PidsLimit = proto.Int32(50)
	id := b.launch(w)
	b.isRunning(id)
	if got := b.cgroupFile(id, "pids", "pids.max", "pids.max"); got != "50" {
		t.Errorf("%s", got)
	}
	if r := b.shell(id, "for i in $(seq 100); do sleep 100 & done; echo no"); r.out == "no\n" && !strings.Contains(r.err, "fork") {
		t.Errorf("%+v", r)
	}
}
