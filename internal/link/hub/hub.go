// Package hub is where runners come in: it enrols them, pairs the two connections that each opens, attaches the line to its runner
// and looks after it until it ends: signs of life, new credentials, revocation.
package hub

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/link/remote"
	"github.com/bermhq/berm/internal/server/wire"
)

// Limits of the hub.
const (
	// MaxHandshakes is how many runners may be on their way in at a time.
	MaxHandshakes = 128
	// attachTimeout is how long a runner may take to say what it runs.
	attachTimeout = 60 * time.Second
	// aliveTimeout is how long the process that is there may take to show that it is.
	aliveTimeout = link.Heartbeat
	// Recheck is how often the credential of a line that is up is looked at again.
	Recheck = 30 * time.Second
	// renewRetry is when a renewal that failed is tried again, at the latest.
	renewRetry = time.Minute
	// renewSpread is over which part of its life the renewals of a credential by several servers are spread.
	renewSpread = 20
)

// Config is what a Hub needs; only Control is required.
type Config struct {
	Control *control.Service
	Logger  *slog.Logger
	Now     func() time.Time
	NewID   func() string
	// Versions are those of the protocol, link.Ours() where it is the zero value.
	Versions link.Range
	// Heartbeat, Silence and Recheck are those of package link and of this one where they are 0.
	Heartbeat, Silence, Recheck time.Duration
}

// Hub takes runners in. It is safe for concurrent use.
type Hub struct {
	cfg   Config
	life  func() (context.Context, context.CancelFunc)
	close context.CancelFunc
	entry chan struct{}
	group sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	byRunner map[string]*session
	byID     map[string]*session
}

// New returns a hub. Its lines end with Close, or with ctx.
func New(ctx context.Context, cfg Config) *Hub {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = randomID
	}
	if cfg.Versions == (link.Range{}) {
		cfg.Versions = link.Ours()
	}
	if cfg.Recheck <= 0 {
		cfg.Recheck = Recheck
	}
	ctx, cancel := context.WithCancel(ctx)
	return &Hub{
		cfg: cfg, close: cancel, entry: make(chan struct{}, MaxHandshakes), byRunner: map[string]*session{}, byID: map[string]*session{},
		life: func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
	}
}

// Close ends all lines, which are told, and waits. Sandboxes go on.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.close()
	h.group.Wait()
}

// ServeHTTP answers link.EnrolPath and link.ConnectPath.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := h.cfg.NewID()
	w.Header().Set("X-Request-Id", id)
	select {
	case h.entry <- struct{}{}:
		defer func() { <-h.entry }()
	default:
		wire.WriteError(w, fault.New(fault.Unavailable, "TOO_MANY_RUNNERS", "%d runners are on their way in", MaxHandshakes).WithRetry(time.Second), id)
		return
	}
	var err error
	switch r.URL.Path {
	case link.EnrolPath:
		err = h.enrol(w, r)
	case link.ConnectPath:
		err = h.connect(w, r)
	default:
		err = fault.NotFoundf(fault.ReasonResourceNotFound, "nothing is at %.80q", r.URL.Path)
	}
	if err == nil {
		return
	}
	level := slog.LevelWarn
	if fault.Is(err, fault.Internal) {
		level = slog.LevelError
	}
	h.cfg.Logger.Log(r.Context(), level, "a runner was refused", "request_id", id, "peer", r.RemoteAddr, "reason", fault.From(err).Reason, "error", err)
	wire.WriteError(w, err, id)
}

// claim makes s the session of its runner. The process that is there stays, if it shows that it is alive: whoever has a copy of its
// credential cannot push it out. The same process, which comes again, is believed that its old line is dead.
func (h *Hub) claim(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, 2*aliveTimeout)
	defer cancel()
	for {
		h.mu.Lock()
		there := h.byRunner[s.cred.RunnerUUID]
		if there == nil && !h.closed {
			h.byRunner[s.cred.RunnerUUID], h.byID[s.id] = s, s
			h.group.Add(1)
		}
		closed := h.closed
		h.mu.Unlock()
		switch {
		case closed:
			return fault.New(fault.Unavailable, "SHUTTING_DOWN", "the gateway is shutting down").WithRetry(time.Second)
		case there == nil:
			return nil
		case there.instance != s.instance && there.alive(ctx):
			return fault.New(fault.Exists, fault.ReasonRunnerExists, "runner %s has a process already, connected from %s since %s",
				s.cred.RunnerID, there.peer, there.since.UTC().Format(time.RFC3339)).
				WithHint("if that process is not yours, its credential was stolen: revoke it with berm token revoke %s, and join again", there.credential().TokenID)
		}
		there.stop(fault.New(fault.Exists, fault.ReasonRunnerExists, "another connection of runner %s came, from %s, and this one gave no sign of life", s.cred.RunnerID, s.peer))
		select {
		case <-there.done:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the connection that runner %s had is being ended", s.cred.RunnerID).WithRetry(time.Second)
		}
	}
}

// hold notes that the runner's process is connected here, unless another process of it is connected to another server.
func (h *Hub) hold(ctx context.Context, s *session) error {
	other, err := h.cfg.Control.HoldLine(ctx, s.cred.RunnerUUID, s.instance)
	if err == nil && other != "" {
		err = fault.New(fault.Exists, fault.ReasonRunnerExists, "runner %s has a process already, connected to server %s", s.cred.RunnerID, other).
			WithHint("if that process is not yours, its credential was stolen: join again, which revokes it; one that has ended is forgotten when the server notices")
	}
	return err
}

// leave forgets a session that is over.
func (h *Hub) leave(s *session) {
	h.cfg.Control.DropLine(s.cred.RunnerUUID) // before anybody comes after it
	h.mu.Lock()
	delete(h.byID, s.id)
	if h.byRunner[s.cred.RunnerUUID] == s {
		delete(h.byRunner, s.cred.RunnerUUID)
	}
	h.mu.Unlock()
	close(s.done)
	h.group.Done()
}

// find returns a session that waits for its second connection.
func (h *Hub) find(id string, cred *control.RunnerCredential) (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.byID[id]
	if !ok || s.cred.TokenID != cred.TokenID {
		return nil, fault.NotFoundf("LINK_SESSION_NOT_FOUND", "there is no such session of runner %s", cred.RunnerID)
	}
	return s, nil
}

func (h *Hub) remoteConfig(s *session) remote.Config {
	return remote.Config{RunnerID: s.cred.RunnerID, Software: s.software, Logger: h.cfg.Logger, Heartbeat: h.cfg.Heartbeat, Silence: h.cfg.Silence, Now: h.cfg.Now}
}
