package kube

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	spoolName = "spool"
	endName   = "end.json"
	// sweepInterval is how often is looked for output whose time is over, and for what sandboxes left on the cluster.
	sweepInterval = 10 * time.Minute
)

// output is what the main process of a sandbox printed, as far as the runner has it.
type output struct {
	dir, session string
	writer       *spool.Writer
	mu           sync.Mutex
	// ending is nil until the sandbox has ended; over is closed then.
	ending *outputEnd
	over   chan struct{}
	failed bool
}

// outputEnd is how output ended.
type outputEnd struct {
	EndedAt time.Time `json:"ended_at"`
	Session string    `json:"session"`
	// Known: all that there was is Bytes long.
	Known bool  `json:"known"`
	Bytes int64 `json:"bytes"`
}

func (o *output) spool() string { return filepath.Join(o.dir, spoolName) }

func (o *output) offset() int64 {
	n, _ := o.writer.Offset()
	return n
}

// add keeps a piece. What lies between it and the piece before is lost.
func (o *output) add(p wire.Output) {
	if gap := p.Offset - o.offset(); gap > 0 {
		o.writer.Skip(gap)
	}
	if err := o.writer.Append(p.Stream, p.Data); err != nil {
		o.mu.Lock()
		o.failed = true
		o.mu.Unlock()
	}
}

func (b *Backend) outputDir(id string) string { return filepath.Join(b.cfg.Dir, "output", id) }

// outputOf returns the output of a sandbox, which it makes, or goes on with. A run is named by the pod's id.
func (b *Backend) outputOf(s *sandbox) (*output, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.output != nil {
		return s.output, nil
	}
	o := &output{dir: b.outputDir(s.id), session: sessionOf(s.uid), over: make(chan struct{})}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	o.writer, err = spool.Create(o.spool(), o.session, b.cfg.OutputLimit, b.cfg.Now)
	if errors.Is(err, fs.ErrExist) {
		o.writer, err = spool.Continue(o.spool(), o.session, b.cfg.OutputLimit, b.cfg.Now)
	}
	if err != nil {
		return nil, err
	}
	s.output = o
	return o, nil
}

// sessionOf makes a session's name of a pod's id, a UUID.
func sessionOf(uid string) string {
	id := strings.ReplaceAll(uid, "-", "")
	if len(id) != spool.SessionSize {
		return (strings.Repeat("0", spool.SessionSize) + id)[len(id):]
	}
	return id
}

// endOutput ends the output of a sandbox. end is nil when nobody knows how much there was.
func (b *Backend) endOutput(s *sandbox, end *podwire.End) {
	out, err := b.outputOf(s)
	if err != nil {
		b.log.Error("the output of a sandbox cannot be kept", "sandbox", s.id, "error", err)
		return
	}
	s.mu.Lock()
	ran := s.journal != nil && !s.journal.StartedAt.IsZero() || !s.observed().StartedAt.IsZero()
	s.mu.Unlock()
	e := &outputEnd{EndedAt: b.cfg.Now(), Session: out.session, Known: !ran}
	if end != nil {
		e.Known, e.Bytes = true, end.OutputBytes
	}
	if err := os.MkdirAll(out.dir, 0o700); err == nil {
		var data []byte
		if data, err = json.Marshal(e); err == nil {
			err = writeOnce(filepath.Join(out.dir, endName), data)
		}
		if err != nil {
			b.log.Error("the end of a sandbox's output could not be written down", "sandbox", s.id, "error", err)
		}
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.ending == nil {
		out.ending = e
		_ = out.writer.Close()
		close(out.over)
	}
}

// keptOutput returns the output of a sandbox that is gone, nil for none.
func (b *Backend) keptOutput(id string) *output {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return nil
	}
	o := &output{dir: b.outputDir(id), over: make(chan struct{})}
	data, err := os.ReadFile(filepath.Join(o.dir, endName))
	if err != nil {
		return nil
	}
	e := &outputEnd{}
	if json.Unmarshal(data, e) != nil {
		return nil
	}
	o.ending, o.session = e, e.Session
	close(o.over)
	return o
}

// sweepOutput removes output whose time is over, and, at the start, what belongs to no sandbox.
func (b *Backend) sweepOutput(start bool) {
	entries, err := os.ReadDir(filepath.Join(b.cfg.Dir, "output"))
	if err != nil {
		return
	}
	for _, entry := range entries {
		if _, err := b.get(entry.Name()); err == nil {
			continue
		}
		kept := b.keptOutput(entry.Name())
		if kept == nil && !start || kept != nil && b.cfg.Now().Sub(kept.ending.EndedAt) < b.cfg.OutputRetention {
			continue
		}
		if err := os.RemoveAll(b.outputDir(entry.Name())); err != nil {
			b.log.Warn("output whose time is over could not be removed", "sandbox", entry.Name(), "error", err)
		}
	}
}

// defaultOutputLimit is that of local sandboxes.
const defaultOutputLimit = shim.DefaultOutputLimit
