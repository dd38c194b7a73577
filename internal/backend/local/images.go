package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// imageName is the record of the image that a sandbox uses: what keeps its layers from being removed, after a restart too. It is not
// flushed: when the machine goes down, so does the sandbox.
const imageName = "image.json"

// namesOf are the aliases and mirrors of a work's zone.
func namesOf(w *backend.Work) (library.Names, error) { return zoneNames("zone "+w.ZoneName, w.Spec) }

func zoneNames(owner string, s *specpb.ProfileSpec) (library.Names, error) {
	from := s.GetImageSources()
	if len(from.GetAliases())+len(from.GetMirrors()) == 0 {
		return library.Names{}, nil
	}
	mirrors := make(map[string][]string, len(from.GetMirrors()))
	for host, m := range from.GetMirrors() {
		mirrors[host] = m.GetHosts()
	}
	return library.ParseNames(owner, from.GetAliases(), mirrors, false)
}

// CheckSpec reports what of a spec no runner of this kind could make sense of, whatever its machine: nil, or one violation.
func CheckSpec(s *specpb.ProfileSpec) error {
	_, err := zoneNames("the zone", s)
	if err == nil {
		return nil
	}
	return fault.From(err).Clone().WithField("image_sources", "%s", fault.From(err).Message)
}

// find says what the image of a work is, as far as it is known without a registry.
func (b *Backend) find(o *order) (*library.Found, error) {
	f, err := b.library.Find(o.image, o.names)
	if err != nil || f.Host {
		return f, err
	}
	return f, b.mounts(o.image)
}

// mounts refuses images where they cannot be mounted.
func (b *Backend) mounts(ref string) error {
	if why, ok := b.machine.lacks[featureLayout]; ok {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "image %s: this machine cannot mount images: %s", ref, why)
	}
	return nil
}

// fetch makes the image of a sandbox present, pulling it if need be, and holds it for the sandbox. It takes no turn among those that
// start: a slow registry holds up nobody but who waits for it.
func (b *Backend) fetch(ctx context.Context, s *sandbox, o *order) (*library.Got, error) {
	pulling := &pullEvent{b: b, s: s, ref: o.image}
	got, err := b.library.Get(ctx, library.Request{
		Ref: o.image, Extra: o.names, Prefer: b.chosen(s), Exact: b.forkedImage(s) != "", Use: true, Pulling: pulling.begin, Report: pulling.report,
	})
	if err != nil {
		return nil, imageFault(err)
	}
	if got.Host {
		return got, nil
	}
	b.keep(s, got.Hold)
	if want := b.forkedImage(s); want != "" && want != got.Image.Digest {
		return nil, imageFault(fmt.Errorf("image %s is %s now, and what sandbox %s has is not here any more", o.image, got.Image.Digest, s.work.Launch.GetForkOf()))
	}
	if err := b.mounts(o.image); err != nil {
		return nil, imageFault(err)
	}
	if err := b.noteImage(s.slot, got.Hold); err != nil {
		return nil, err
	}
	failpoint.Hit(failImageHeld)
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, Events: []core.Event{imageEvent(o.image, got, b.event(eventImage, ""))}})
	return got, nil
}

// pullEvent is the event of a pull, told anew when it got on: a tenth further, or a layer. Those who read the timeline see the last.
type pullEvent struct {
	b     *Backend
	s     *sandbox
	ref   string
	event core.Event
	told  library.Progress
}

func (p *pullEvent) begin() {
	p.event = p.b.event("pulling", p.ref+" is being pulled")
	p.publish()
}

func (p *pullEvent) report(now library.Progress) {
	const steps = 10
	if now.Total == 0 || (now.Bytes*steps/now.Total == p.told.Bytes*steps/now.Total && now.Done == p.told.Done) {
		return
	}
	p.told = now
	p.event.Message = fmt.Sprintf("%s is being pulled from %s", p.ref, now.Source)
	p.event.Attrs = map[string]string{
		"source": now.Source, "bytes": strconv.FormatInt(now.Bytes, 10), "total": strconv.FormatInt(now.Total, 10),
		"layers": fmt.Sprintf("%d/%d", now.Done, now.Layers),
	}
	p.publish()
}

func (p *pullEvent) publish() {
	p.b.publish(p.s, backend.Observation{Phase: backend.PhaseCreating, Events: []core.Event{p.event}})
}

// chosen is the image that an earlier server chose for the sandbox, "" for none: a start that is begun again uses the same. A fork uses
// that of the sandbox that it begins as, whatever its name stands for today.
func (b *Backend) chosen(s *sandbox) string {
	if digest := s.imageDigest(); digest != "" {
		return digest
	}
	return b.forkedImage(s)
}

// forkedImage is the image of the sandbox that a fork begins as, "" when that is gone or there is none.
func (b *Backend) forkedImage(s *sandbox) string {
	from := s.work.Launch.GetForkOf()
	if from == "" {
		return ""
	}
	source, err := b.get(from)
	if err != nil {
		return ""
	}
	return source.imageDigest()
}

// keep makes a hold the sandbox's.
func (b *Backend) keep(s *sandbox, h *library.Hold) {
	s.mu.Lock()
	old := s.image
	s.image = h
	s.mu.Unlock()
	old.Release()
}

// letGo releases the image of an ended sandbox.
func (b *Backend) letGo(s *sandbox) { b.keep(s, nil) }

// noteImage writes down which image a sandbox uses.
func (b *Backend) noteImage(slot string, h *library.Hold) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := filepath.Join(b.place.sandbox(slot), imageName)
	if err := os.WriteFile(path+".tmp", append(data, recordEnd), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// holdAgain holds the images that sandboxes of an earlier server use, before anything is removed.
func (b *Backend) holdAgain(all []*found) {
	for _, f := range all {
		h := &library.Hold{}
		ok, err := readRecord(b.place.sandbox(f.slot), imageName, h)
		if err != nil {
			b.log.Warn("which image a sandbox uses cannot be read", "sandbox", f.id, "error", err)
		}
		if ok && f.end == nil {
			b.library.Again(h)
			f.image = h
		}
	}
}

// eventImage is the event that says how an image became ready.
const eventImage = "image"

// imageEvent tells how an image became ready.
func imageEvent(ref string, g *library.Got, e core.Event) core.Event {
	e.Attrs = map[string]string{"image": ref, "digest": g.Image.Digest, "cached": strconv.FormatBool(g.Cached()), "from": g.From}
	if g.Index != "" {
		e.Attrs["index"] = g.Index
	}
	switch {
	case g.Cached() && g.Source == "":
		e.Message = ref + " is present, from " + g.From
	case g.Source != "":
		e.Message = fmt.Sprintf("%s was pulled from %s: %d bytes", ref, g.Source, g.Downloaded)
		e.Attrs["downloaded"] = strconv.FormatInt(g.Downloaded, 10)
	default:
		e.Message = ref + " was unpacked"
	}
	if !g.Cached() {
		e.Attrs["bytes"] = strconv.FormatInt(g.Unpacked.Bytes, 10)
		e.Attrs["duration_ms"] = strconv.FormatInt(g.Took.Milliseconds(), 10)
	}
	if g.Shared {
		e.Attrs["shared"] = "true"
	}
	if g.Alias != nil {
		e.Attrs["alias"], e.Attrs["alias_of"] = g.Alias.Given+"="+g.Alias.String(), g.Alias.Owner
		e.Message += fmt.Sprintf(" (alias of %s: %s)", g.Alias.Owner, g.Alias)
	}
	e.Message += ", " + g.Image.Digest
	return e
}

var _ backend.Images = (*Backend)(nil)

// PullImage implements backend.Images.
func (b *Backend) PullImage(ctx context.Context, in backend.ImagePull, report func(backend.ImageProgress)) (*backend.Image, error) {
	if err := b.refused(); err != nil {
		return nil, err
	}
	img, err := b.library.Pull(ctx, in, report)
	return img, b.told(err)
}

// ListImages implements backend.Images.
func (b *Backend) ListImages(context.Context) ([]backend.Image, error) {
	if err := b.refused(); err != nil {
		return nil, err
	}
	return b.library.List()
}

// RemoveImage implements backend.Images.
func (b *Backend) RemoveImage(_ context.Context, ref string, force bool) (*backend.ImageRemoval, error) {
	if err := b.refused(); err != nil {
		return nil, err
	}
	done, err := b.library.Remove(ref, force)
	return done, b.told(err)
}

// ImportImage implements backend.Images.
func (b *Backend) ImportImage(ctx context.Context, name string, pin bool, archive io.Reader) ([]backend.Image, error) {
	if err := b.refused(); err != nil {
		return nil, err
	}
	list, err := b.library.Import(ctx, name, pin, archive)
	return list, b.told(err)
}

// openLibrary opens the images of the runner.
func (b *Backend) openLibrary(ctx context.Context) (err error) {
	cfg := b.imageConfig
	cfg.Dir, cfg.Logger, cfg.Now = b.place.images(), b.log, b.cfg.Now
	b.library, err = library.Open(ctx, cfg)
	return err
}

// tryAliases warns of aliases whose images cannot be used as things are. It is no error: a layout may be put there later.
func (b *Backend) tryAliases() {
	if b.library == nil {
		return
	}
	for _, a := range b.imageConfig.Names.Aliases {
		if _, err := b.library.Find(a.Given, library.Names{}); err != nil {
			b.log.Warn("an image alias cannot be used yet", "image", a.Given, "error", err)
		}
	}
}

// imageFault marks an error as the image's, unless it is the caller's end.
func imageFault(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &imageError{err}
}

// imageError is a failure to get the image.
type imageError struct{ err error }

func (e *imageError) Error() string { return e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }
