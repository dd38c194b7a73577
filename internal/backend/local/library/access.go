package library

import (
	"context"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/backend/local/image/registry"
	"github.com/bermhq/berm/internal/core/fault"
)

// Verify says when a registry is asked whether an image that is here may be run. The content was opened for somebody: for whomever the
// runner's credentials named at the time, or for everybody. Images that were imported by hand, and layouts, are open to all.
type Verify string

// The policies.
const (
	// VerifyChanged: when what the runner would show the registry today never opened the image. The default.
	VerifyChanged Verify = "changed"
	// VerifyAlways: also when it did, longer than VerifiedFor ago.
	VerifyAlways Verify = "always"
	// VerifyNever: not at all: whatever is here may be run.
	VerifyNever Verify = "never"
)

const (
	// VerifiedFor is how long the answer of a registry counts under VerifyAlways.
	VerifiedFor = time.Hour
	// MaxProofs is how many are kept of one name; the oldest goes first.
	MaxProofs = 8
	// maxVerifyTime bounds the asking, whatever registries do.
	maxVerifyTime = 2 * time.Minute
)

// proof is the record that a name was opened: by which repository, of the registry or of a mirror, and for whom.
type proof struct {
	Source string        `json:"source"`
	As     registry.Mark `json:"as"`
	At     time.Time     `json:"at"`
}

// withProofs returns a list with more: the newest of each source and entry of the credentials is kept.
func withProofs(list []proof, more ...proof) []proof {
	out := slices.Clone(list)
	for _, p := range more {
		out = slices.DeleteFunc(out, func(q proof) bool { return q.Source == p.Source && q.As.Entry == p.As.Entry })
		out = append(out, p)
	}
	return out[max(0, len(out)-MaxProofs):]
}

// newProof returns the proof that a session gives which was answered, as a list: an empty one when a name has such a proof already that is
// not old, so that nothing has to be written. The caller has the lock.
func (l *Library) newProof(name string, session *registry.Session, s source) []proof {
	if t := l.names[name]; t != nil {
		for _, p := range t.Proofs {
			if p.Source == s.repo.Name() && p.As.Covers(session.Identity()) && l.cfg.Now().Sub(p.At) < VerifiedFor/2 {
				return nil
			}
		}
	}
	return []proof{{Source: s.repo.Name(), As: session.Identity().Mark(), At: l.cfg.Now()}}
}

// proven reports whether a name that is here may be run without asking anybody.
func (l *Library) proven(t *tag, proofs []proof, from []source) bool {
	if l.cfg.Verify == VerifyNever || t.Imported {
		return true
	}
	for _, p := range proofs {
		if l.cfg.Verify == VerifyAlways && l.cfg.Now().Sub(p.At) >= VerifiedFor {
			continue
		}
		at := slices.IndexFunc(from, func(s source) bool { return s.repo.Name() == p.Source })
		if at < 0 {
			continue // It is none of its sources any more.
		}
		if p.As.Public() {
			return true
		}
		// Credentials that cannot be read show nothing; the asking tells why.
		if as, err := l.client.Identity(from[at].repo); err == nil && p.As.Covers(as) {
			return true
		}
	}
	return false
}

// verify asks for an image that is here whether it may be run, where that is not known, once however many wait for it. Faults:
// IMAGE_UNVERIFIED.
func (l *Library) verify(ctx context.Context, f *Found, extra Names) error {
	if f.Proven {
		return nil
	}
	from, err := l.sources(f.ref, extra)
	if err != nil {
		return err
	}
	key := f.ref.name() + " " + f.top
	for _, s := range from {
		key += " " + s.repo.Name()
	}
	answer := l.asking.DoChan(key, func() (any, error) {
		if !l.begin() {
			return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
		}
		defer l.running.Done()
		ctx, cancel := context.WithTimeout(l.ctx, maxVerifyTime)
		defer cancel()
		return nil, l.ask(ctx, f, from)
	})
	select {
	case a := <-answer:
		return a.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin counts something that Close waits for; false: the library is being closed.
func (l *Library) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.running.Add(1)
	return true
}

// ask asks the sources in their order, and writes down the first that has the image for this runner.
func (l *Library) ask(ctx context.Context, f *Found, from []source) error {
	var errs []error
	for _, s := range from {
		p, err := l.askOne(ctx, s, f.top)
		if err == nil {
			return l.noteProof(f, p)
		}
		errs = append(errs, err)
	}
	return unverified(f, errs)
}

func (l *Library) askOne(ctx context.Context, s source, digest string) (proof, error) {
	if err := l.client.Allowed(s.repo.RegistryStr()); s.mirror == "" && err != nil {
		return proof{}, err
	}
	session, err := l.client.Open(ctx, s.repo)
	if err != nil {
		return proof{}, err
	}
	return proof{Source: s.repo.Name(), As: session.Identity().Mark(), At: l.cfg.Now()}, session.Holds(ctx, registry.Manifests, digest)
}

// noteProof writes down that a name was opened, unless it stands for something else by now.
func (l *Library) noteProof(f *Found, p proof) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.names[f.ref.name()]
	if t == nil || t.Digest != f.Image.Digest {
		return nil
	}
	next := *t
	next.Proofs = withProofs(t.Proofs, p)
	if err := writeRecord(l.place.name(t.Name), &next); err != nil {
		return diskFault(f.ref, err)
	}
	l.names[t.Name] = &next
	return nil
}

// unverified says that nobody opens an image that is here.
func unverified(f *Found, errs []error) error {
	code := fault.Precondition
	why := ""
	for _, err := range errs {
		e := fault.From(err)
		if e.Code == fault.Unavailable || e.Code == fault.Exhausted {
			code = fault.Unavailable // Another time it may be told otherwise.
		}
		if why != "" {
			why += "; "
		}
		why += e.Message
	}
	return fault.New(code, fault.ReasonImageUnverified, "image %s is here, but whether this runner may still use it, its registry has to say: %s", f.Ref, why).
		WithHint("what the runner shows the registry today never opened this image: see to its credentials (auth_file), or pull it by hand; verify: never in the file of berm serve --images trusts whatever is here").
		WithMeta("image", f.Ref)
}
