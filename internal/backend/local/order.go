package local

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/disk"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// order is a work as this backend understands it: only what it acts on.
type order struct {
	image string
	// names are what the zone makes of image references.
	names   library.Names
	runtime string
	limits  bundle.Limits
	// diskBytes is how much the sandbox may write to its own file systems; 0: they are in memory.
	diskBytes int64
	// env is the environment that the launch gives, NAME=value by name.
	env []string
	// main is the command of the launch with its arguments; args are arguments for the image's own, where it names none.
	main, args []string
	// idle: no main process, whatever the image says.
	idle bool
	// mode and egress are the egress mode in force, nil for none.
	mode   string
	egress *specpb.EgressMode
	// service is how the gateway leads to exposed ports, nil for none.
	service *core.Service
}

// mainOf returns the main process in an image: the launch's command, else the image's entrypoint with the launch's arguments
// in place of its own, as Kubernetes has it. None: the sandbox idles, or, where it was not asked to, cannot start.
func (o *order) mainOf(entrypoint, cmd []string) []string {
	switch {
	case o.idle:
		return nil
	case len(o.main) > 0:
		return o.main
	case len(o.args) > 0:
		return slices.Concat(entrypoint, o.args)
	}
	return slices.Concat(entrypoint, cmd)
}

// reader collects what is wrong with a work while it is read, so that all of it is told at once.
type reader struct {
	refused []fault.Field
}

func (r *reader) refuse(path, format string, args ...any) {
	r.refused = append(r.refused, fault.Field{Path: path, Description: fmt.Sprintf(format, args...)})
}

// read returns the order of a work, and the fields that this machine refuses. It is pure.
func read(w *backend.Work, m machine) (*order, []fault.Field) {
	r := &reader{}
	o := &order{image: w.Spec.GetContainerImage(), runtime: w.Spec.GetRuntimeClass()}
	if o.image == "" {
		o.image = image.Host
	}
	var err error
	if o.names, err = namesOf(w); err != nil {
		r.refuse("image_sources", "%s", fault.From(err).Message)
	}
	r.id(w.SandboxID)
	o.limits = r.limits(w.Spec.GetResourceDefaults(), m)
	o.diskBytes = r.disk(w.Spec.GetResourceDefaults(), m)
	o.mode, o.egress = r.egressMode(w.Spec.GetNetwork().GetEgress(), m)
	o.service = r.ingress(w.Spec.GetNetwork(), w.Launch)
	r.pod(w.Spec.GetPod())
	o.main, o.args = r.command(w.Launch, o.image == image.Host)
	o.idle = w.Launch.GetIdle()
	o.env = r.environment(w.Launch.GetEnvironmentVariables())
	r.files(w.Launch.GetMountedFiles(), o.image == image.Host)
	for _, name := range w.Launch.GetUnsupported() {
		r.refuse(name, "nothing on this runner honours it; it comes with a later version")
	}
	return o, r.refused
}

// id checks the sandbox's id, which becomes part of paths. Ids are made by the server, so this catches mistakes. A plan has none
// yet; Create refuses work without one.
func (r *reader) id(id string) {
	if id == "" {
		return
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(id) > MaxIDLength || strings.Trim(id, letters+"_.-") != "" || !strings.Contains(letters, id[:1]) {
		r.refuse("sandbox_id", "%q: want at most %d letters, digits and _ . -, a letter or digit first", id, MaxIDLength)
	}
}

// limits reads resources and refuses what this machine cannot enforce.
func (r *reader) limits(d *specpb.ResourceDefaults, m machine) bundle.Limits {
	l := bundle.Limits{PIDs: m.pidsLimit, Swap: m.swap, OpenFiles: m.openFiles}
	if n := d.GetPidsLimit(); n > 0 {
		l.PIDs = int64(n)
		if !m.pids {
			r.refuse("resource_defaults.pids_limit", "this machine has no controller of processes to enforce it with")
		}
	}
	if !m.pids {
		l.PIDs = 0
	}
	l.CPUMillis = r.quantity("resource_defaults.cpu_limit", d.GetCpuLimit(), true)
	l.CPURequestMillis = r.quantity("resource_defaults.cpu_request", d.GetCpuRequest(), true)
	l.MemoryBytes = r.quantity("resource_defaults.memory_limit", d.GetMemoryLimit(), false)
	r.quantity("resource_defaults.memory_request", d.GetMemoryRequest(), false)
	if l.CPUMillis > 0 && l.CPUMillis < bundle.MinCPUMillis {
		r.refuse("resource_defaults.cpu_limit", "%s is less than the kernel can enforce; %dm is the least", d.GetCpuLimit(), bundle.MinCPUMillis)
	}
	if l.MemoryBytes > 0 && l.MemoryBytes < MinMemoryBytes {
		r.refuse("resource_defaults.memory_limit", "%s is less than a sandbox needs to start; %d bytes are the least", d.GetMemoryLimit(), MinMemoryBytes)
	}
	if l.CPUMillis > 0 && !m.cpu {
		r.refuse("resource_defaults.cpu_limit", "this machine has no CPU controller to enforce it with")
	}
	if l.MemoryBytes > 0 && !m.memory {
		r.refuse("resource_defaults.memory_limit", "this machine has no memory controller to enforce it with")
	}
	if n := d.GetGpu().GetCount(); n > 0 || d.GetGpu().GetType() != "" {
		r.refuse("resource_defaults.gpu", "this runner has no GPUs to give")
	}
	if !m.cpu {
		l.CPURequestMillis = 0
	}
	return l
}

// disk reads how much may be written. Without a disk for it, it goes to memory, of which no more is promised than there is.
func (r *reader) disk(d *specpb.ResourceDefaults, m machine) int64 {
	const path = "resource_defaults.ephemeral_storage_limit"
	text := d.GetEphemeralStorageLimit()
	bytes := r.quantity(path, text, false)
	switch {
	case text == "" && m.disk:
		return DefaultDiskBytes
	case text == "":
	case !m.disk:
		r.refuse(path, "files of sandboxes are in memory here: %s", m.lacks[featureDisk])
	case bytes < disk.MinBytes || bytes > disk.MaxBytes:
		r.refuse(path, "%s: this runner gives %d to %d bytes", text, int64(disk.MinBytes), int64(disk.MaxBytes))
	}
	return bytes
}

// quantity reads a Kubernetes quantity, in thousandths or in whole units. The core checked it long before.
func (r *reader) quantity(path, text string, millis bool) int64 {
	if text == "" {
		return 0
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		r.refuse(path, "%q is no quantity", text)
		return 0
	}
	if millis {
		return q.MilliValue()
	}
	return q.Value()
}

// ingress reads how exposed ports are reached: through the gateway alone. What cannot be demanded of egress is refused, too.
func (r *reader) ingress(n *specpb.Network, l *specpb.Launch) *core.Service {
	if n.GetEgress().GetRequire() == "proven" {
		r.refuse("network.egress.require", "proven: a runner on one machine tries no network from within a sandbox; leave it out, or name a runner on a cluster that has proven it")
	}
	service, refused := backend.Expose(n, l)
	r.refused = append(r.refused, refused...)
	return service
}

// pod refuses parts of a pod that have no meaning outside of Kubernetes, and which ignoring would change what is run.
func (r *reader) pod(p *specpb.Pod) {
	for key := range p.GetSpec().GetFields() {
		if key != "nodeSelector" {
			r.refuse("pod.spec."+key, "this runner makes no pods and cannot honour it; nodeSelector alone counts here")
		}
	}
}

// command returns the main process with its arguments, or the arguments alone for that of the image. Neither: the image's own.
func (r *reader) command(l *specpb.Launch, host bool) (main, args []string) {
	argv := l.GetArgs()
	if l.GetCommand() != "" {
		argv = append([]string{l.GetCommand()}, argv...)
	} else if host && len(argv) > 0 {
		r.refuse("args", "arguments without a command: the image %q names none that could take them", image.Host)
	}
	if len(argv) > MaxArgs {
		r.refuse("args", "%d arguments, at most %d are possible", len(argv), MaxArgs)
	}
	total := 0
	for _, a := range argv {
		total += len(a)
		if len(a) >= MaxString || strings.ContainsRune(a, 0) {
			r.refuse("args", "an argument of %d bytes or with a zero byte; the kernel takes less than %d and none", len(a), MaxString)
		}
	}
	if total > MaxArgBytes {
		r.refuse("args", "the command has %d bytes, at most %d are possible", total, MaxArgBytes)
	}
	if l.GetCommand() == "" {
		return nil, argv
	}
	return argv, nil
}
