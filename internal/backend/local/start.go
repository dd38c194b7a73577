package local

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/oci"
)

// begin starts a sandbox in the background and watches it to its end.
func (b *Backend) begin(s *sandbox) {
	b.beginWith(s, func(ctx context.Context) error { return b.start(ctx, s) })
}

// beginWith is begin with a start of another kind.
func (b *Backend) beginWith(s *sandbox, start func(context.Context) error) {
	ctx, cancel := context.WithCancel(b.ctx)
	s.mu.Lock()
	if s.cancelStart = cancel; s.stop != nil { // It came before there was anything to cancel.
		cancel()
	}
	s.mu.Unlock()
	b.spawn(func() {
		defer cancel()
		b.run(ctx, s, start)
	})
}

// run takes a sandbox from accepted to ended.
func (b *Backend) run(ctx context.Context, s *sandbox, start func(context.Context) error) {
	err := start(ctx)
	switch {
	case b.ctx.Err() != nil:
		return
	case err != nil:
		b.endUnstarted(s, err)
	default:
		b.passStop(s)
		b.watch(s)
	}
}

// start prepares everything and hands over to a shim. It returns when the main process runs.
func (b *Backend) start(ctx context.Context, s *sandbox) error {
	defer b.pools.launch()()
	o, fields := read(s.work, b.machine)
	if len(fields) > 0 {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "%s: %s", fields[0].Path, fields[0].Description)
	}
	rt, err := b.runtime(o.runtime)
	if err != nil {
		return err
	}
	if fields = rt.refusals(o, &b.machine); len(fields) > 0 {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "%s: %s", fields[0].Path, fields[0].Description)
	}
	img, err := b.fetch(ctx, s, o)
	if err != nil {
		return err
	}
	select {
	case b.starts <- struct{}{}:
		defer func() { <-b.starts }()
	case <-ctx.Done():
		return ctx.Err()
	}
	restore := ""
	if s.work.Launch.GetForkOf() != "" {
		if restore, err = b.saveSource(ctx, s); err != nil {
			return err
		}
	}
	_, client, err := b.bringUp(ctx, s, o, img, bringing{restore: restore})
	if err != nil {
		return err
	}
	if restore != "" {
		if err := os.RemoveAll(restore); err != nil { // It is in memory now; a deletion would remove it at the latest.
			b.log.Warn("what a sandbox was restored from could not be removed", "sandbox", s.id, "error", err)
		}
	}
	b.started(s, client)
	return nil
}

// forkName is where a sandbox that begins as another has what was saved of that one, until it runs.
const forkName = "fork"

// bringing is what is special about a start: prepared, all but the main process is made; restore is what it goes on from.
type bringing struct {
	prepared bool
	restore  string
}

// bringUp makes everything of a sandbox and hands over to a shim. It returns when the main process runs or, prepared, when all
// but that is there.
func (b *Backend) bringUp(ctx context.Context, s *sandbox, o *order, img *library.Got, how bringing) (*boxed, *shim.Client, error) {
	rt, err := b.runtime(o.runtime)
	if err != nil {
		return nil, nil, err
	}
	secrets, err := s.secretsNow()
	if err != nil {
		return nil, nil, err
	}
	x, err := b.makeBox(s, o, img, rt)
	if err != nil {
		return nil, nil, err
	}
	config, err := b.writeBundle(s.slot, &x.bundle)
	if err != nil {
		return nil, nil, err
	}
	failpoint.Hit(failBundled)
	if err := os.Mkdir(b.place.shimState(s.slot), 0o700); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil { // From here on a stop goes to the shim.
		return nil, nil, ctx.Err()
	}
	s.submit(config)
	told := b.shimConfig(s.slot, rt, &x.bundle)
	told.Prepared, told.Restore, told.Owner = how.prepared, how.restore, x.owner()
	if !how.prepared {
		told.Env, told.WorkDir, told.Main, told.Secrets = x.envOf(o), x.dir, x.mainOf(o), secrets
	}
	client, err := shim.Start(b.ctx, b.shim, told)
	failpoint.Hit(failShimStarted)
	return x, client, err
}

// shimConfig is what every shim is told, in words that fit its bundle.
func (b *Backend) shimConfig(slot string, rt ociRuntime, in *bundle.Input) shim.Config {
	cfg := shim.Config{
		Dir: b.place.shimState(slot), ID: slot, Runtime: rt.path, RuntimeRoot: b.place.runtime(rt.name), Bundle: b.place.bundle(slot),
		RuntimeKind: rt.kind, RuntimeFlags: rt.allFlags(), Program: rt.program, HideUnified: rt.kind == oci.Crun && b.machine.cgroup == cgroup.Hybrid,
		Cgroup:       cgroup.Group{Mode: b.machine.cgroup, Path: b.place.cgroup(slot), Base: b.place.cgroupBase()},
		StartTimeout: startTimeout, OutputLimit: b.cfg.OutputLimit, Network: in.Around(),
	}
	if in.Users != "" {
		cfg.IDs = &oci.IDs{First: int(in.IDBase), Count: bundle.IDsPerSandbox}
	}
	if rt.kind.Dials() {
		cfg.Meet = filepath.Join(b.place.box(slot), meetDir, meetName)
	}
	if in.Network != "" {
		rt.carry(&cfg)
	}
	return cfg
}

// started publishes that a sandbox runs.
func (b *Backend) started(s *sandbox, client *shim.Client) {
	at := b.cfg.Now()
	record, err := shim.ReadRecord(client.Dir())
	if err == nil && record != nil && !record.StartedAt.IsZero() {
		at = record.StartedAt
	}
	s.mu.Lock()
	s.client, s.secrets = client, nil
	s.mu.Unlock()
	b.publish(s, backend.Observation{Phase: backend.PhaseRunning, StartedAt: at, Events: []core.Event{{Name: "started", At: at}}})
}

// configName is the file of a bundle that a runtime reads.
const configName = "config.json"

// writeBundle writes config.json and returns it. It need not survive anything: a start that is begun again writes it again.
func (b *Backend) writeBundle(slot string, in *bundle.Input) (json.RawMessage, error) {
	dir := b.place.bundle(slot)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	data, err := json.Marshal(bundle.Spec(in))
	if err != nil {
		return nil, err
	}
	return data, os.WriteFile(filepath.Join(dir, configName), data, 0o600)
}

// given returns the configuration that an earlier server gave to a shim, nil when there was none or it cannot be told.
func (b *Backend) given(slot string) json.RawMessage {
	if _, err := os.Stat(b.place.shimState(slot)); err != nil { // made when a bundle is about to be handed over
		return nil
	}
	data, err := os.ReadFile(filepath.Join(b.place.bundle(slot), configName))
	if err != nil || !json.Valid(data) {
		return nil // nothing depends on it
	}
	return data
}

// boxed is a sandbox that is ready to be started: what depends on its spec. A launch adds the rest.
type boxed struct {
	bundle bundle.Input
	// env is the environment before that of the launch, dir the working directory.
	env []string
	dir string
	// entrypoint and cmd are the image's.
	entrypoint, cmd []string
}

// owner is who process 1 is on the machine; nil for a user of an image that has no id there, which the shim refuses.
func (x *boxed) owner() *oci.Identity {
	if max(x.bundle.UID, x.bundle.GID) >= bundle.IDsPerSandbox {
		return nil
	}
	return &oci.Identity{UID: int(x.bundle.IDBase + x.bundle.UID), GID: int(x.bundle.IDBase + x.bundle.GID)}
}

// envOf and mainOf return environment and main process of a launch.
func (x *boxed) envOf(o *order) []string  { return mergeEnv(x.env, o.env) }
func (x *boxed) mainOf(o *order) []string { return o.mainOf(x.entrypoint, x.cmd) }

// makeBox makes what the processes of a sandbox will see.
func (b *Backend) makeBox(s *sandbox, o *order, img *library.Got, rt ociRuntime) (*boxed, error) {
	dir := b.place.box(s.slot)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	id := int(base(s.ids))
	if err := os.Chown(dir, id, id); err != nil {
		return nil, err
	}
	failpoint.Hit(failBoxMade)
	x := &boxed{bundle: bundle.Input{
		ID: s.hostname(), Env: []string{"PATH=" + defaultPath}, IDBase: base(s.ids), CgroupsPath: b.place.cgroup(s.slot), Limits: o.limits,
	}}
	if err := b.withRuntime(&x.bundle, rt, s.slot); err != nil {
		return nil, err
	}
	files, err := b.bindFiles(s, dir)
	if err != nil {
		return nil, err
	}
	if img.Host {
		err = b.hostBox(x, s, o, dir)
	} else {
		err = b.imageBox(x, s, o, img.Image, dir)
	}
	if err == nil {
		err = b.connect(x, s, o, dir)
	}
	if err != nil {
		return nil, err
	}
	x.bundle.Binds = append(x.bundle.Binds, files...)
	failpoint.Hit(failRooted)
	return x, nil
}

// filesName is where the contents of mounted files are shown, in a box.
const filesName = "files"

// Names in the directory of a box by which an init that dials finds itself and its shim.
const (
	meetDir  = "berm"
	meetName = "shim.sock"
	// initName is also the name below bundle.MeetDir.
	initName = "init"
)

// withRuntime says how process 1 is started, and in whose user namespace. A runtime that passes descriptors on is given the one binary of all sandboxes, which
// the sandbox can execute and not read. gVisor reads what it executes, with the ids of the sandbox: there the binary is a copy
// that anybody can read, in a directory beside the socket, which belongs to the machine's root and is shown read-only.
func (b *Backend) withRuntime(in *bundle.Input, rt ociRuntime, slot string) error {
	if !rt.kind.Dials() {
		in.Users = shim.UserNamespace(b.place.bundle(slot))
		in.Init, in.Args = b.shim, shim.InitArgs(bundle.InitPath, in.Limits.OpenFiles)[1:]
		return nil
	}
	dir := filepath.Join(b.place.box(slot), meetDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Link(b.openShim, filepath.Join(dir, initName)); err != nil {
		return err
	}
	in.OwnKernel, in.Meet = true, dir
	args := shim.InitDialArgs(bundle.MeetDir+"/"+initName, bundle.MeetDir+"/"+meetName)
	in.Init, in.Args = args[0], args[1:]
	return nil
}

// bindFiles returns the binds of mounted files, and of the two files of /etc that differ by sandbox. The contents of
// mounted files stay in the state directory, which the sandbox's ids cannot enter; they are shown through a mount.
func (b *Backend) bindFiles(s *sandbox, dir string) ([]bundle.Bind, error) {
	if err := b.nameBox(s.slot, s.hostname()); err != nil {
		return nil, err
	}
	binds := []bundle.Bind{
		{Source: filepath.Join(dir, "hostname"), Target: "/etc/hostname"}, {Source: filepath.Join(dir, "hosts"), Target: "/etc/hosts"},
	}
	given := s.work.Launch.GetMountedFiles()
	if len(given) == 0 {
		return binds, nil
	}
	shown := filepath.Join(dir, filesName)
	if err := bindDir(b.place.mounted(s.slot), shown, unix.MS_NOSUID|unix.MS_NODEV); err != nil {
		return nil, err
	}
	for i, f := range given {
		binds = append(binds, bundle.Bind{Source: filepath.Join(shown, strconv.Itoa(i)), Target: f.GetPath(), Exec: true})
	}
	return binds, nil
}

// nameBox writes the files that have the host name in them: into the same files, which a prepared sandbox has mounted.
func (b *Backend) nameBox(slot, name string) error {
	dir := b.place.box(slot)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 "+name+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "hostname"), []byte(name+"\n"), 0o644),
	)
}

// endUnstarted ends a sandbox whose start failed. If a shim recorded an end, that is it.
func (b *Backend) endUnstarted(s *sandbox, cause error) {
	exit, err := shim.ReadExit(b.place.shimState(s.slot))
	if err == nil && exit != nil {
		b.endExited(s, *exit)
		return
	}
	if record, err := shim.ReadRecord(b.place.shimState(s.slot)); errors.Is(cause, shim.ErrDied) && (err != nil || record != nil) {
		b.endLost(s, unseen) // Its main process may have run.
		return
	}
	if !errors.Is(cause, context.Canceled) {
		b.log.Warn("a sandbox could not be started", "sandbox", s.id, "error", cause)
	}
	end := endRecord{Version: recordVersion, At: b.cfg.Now(), Failed: true, Reason: core.EndStartFailed, Message: message(cause)}
	var image *imageError
	stop := s.stopping()
	switch {
	case stop != nil && errors.Is(cause, context.Canceled):
		end.Failed, end.Reason, end.Message = false, stop.Why, "stopped before it ran"
	case errors.As(cause, &image):
		end.Reason = core.EndImageFailed
	}
	b.endRecorded(s, end)
}

// message is what people are told of an error: faults speak for themselves, and their causes stay in the log.
func message(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		c := f.Clone()
		c.Cause = nil
		return c.Error()
	}
	return err.Error()
}

// hostname returns the host name of a sandbox: its id, as far as the kernel and DNS allow.
func hostname(id string) string {
	name := []byte(id)
	if len(name) > MaxHostname {
		name = name[:MaxHostname]
	}
	for i, c := range name {
		if c == '_' || c == '.' {
			name[i] = '-'
		}
	}
	return string(name)
}
