package hub

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/link/remote"
	"github.com/bermhq/berm/internal/store"
)

// session is the pair of connections of one runner, from the first to the end of both.
type session struct {
	h              *Hub
	id             string
	instance, peer string
	// software is the version of its program, as the handshake says.
	software string
	since    time.Time
	bulk     chan net.Conn
	paired   atomic.Bool
	done     chan struct{}

	// cred is that of the handshake; it names the runner.
	cred *control.RunnerCredential

	mu      sync.Mutex
	current *control.RunnerCredential
	line    *remote.Link
	stopped chan struct{}
	why     error
}

func newSession(h *Hub, cred *control.RunnerCredential, instance, peer string) *session {
	return &session{
		h: h, id: randomID(), instance: instance, peer: peer, since: h.cfg.Now(), bulk: make(chan net.Conn, 1), done: make(chan struct{}),
		cred: cred, current: cred, stopped: make(chan struct{}),
	}
}

func (s *session) credential() *control.RunnerCredential {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// stop makes the session end. The first reason stays.
func (s *session) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
		close(s.stopped)
	}
}

// alive reports whether the runner shows that it is there. One that has just begun has the benefit of the doubt.
func (s *session) alive(ctx context.Context) bool {
	s.mu.Lock()
	line := s.line
	s.mu.Unlock()
	if line == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	return line.Alive(ctx)
}

// run leads the session from its control connection to its end.
func (s *session) run(controlConn net.Conn) {
	defer s.h.leave(s)
	ctx, cancel := s.h.life()
	defer cancel()
	log := s.h.cfg.Logger.With("runner", s.cred.RunnerID, "peer", s.peer)
	bulk, err := s.pair(ctx)
	if err != nil {
		_ = controlConn.Close()
		log.WarnContext(ctx, "a runner did not open its second connection", "error", err)
		return
	}
	line, err := remote.New(ctx, s.h.remoteConfig(s), controlConn, bulk)
	if err != nil {
		log.WarnContext(ctx, "the line to a runner could not be opened", "error", err)
		return
	}
	s.mu.Lock()
	s.line = line
	s.mu.Unlock()
	err = s.attached(ctx, line)
	log.InfoContext(ctx, "the line to a runner has ended", "why", err)
	line.Goodbye(err)
	line.Close(err)
}

// pair waits for the bulk connection.
func (s *session) pair(ctx context.Context) (net.Conn, error) {
	wait := time.NewTimer(link.HelloTimeout)
	defer wait.Stop()
	var err error
	select {
	case c := <-s.bulk:
		if c == nil {
			return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "it broke in the handshake")
		}
		return c, nil
	case <-wait.C:
		err = fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "it did not come within %s", link.HelloTimeout)
	case <-s.stopped:
		err = s.why
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !s.paired.CompareAndSwap(false, true) {
		if c := <-s.bulk; c != nil { // it was on its way: the handshake sends it, whatever becomes of the session
			_ = c.Close()
		}
	}
	return nil, err
}

// attached gives the runner its process until the line ends, and returns why it did.
func (s *session) attached(ctx context.Context, line *remote.Link) error {
	attaching, cancel := context.WithCancel(ctx)
	result := make(chan error, 1)
	there := make(chan bool, 1)
	go func() {
		err := s.h.cfg.Control.Attach(attaching, s.cred.RunnerUUID, line)
		result <- err
		there <- err == nil
	}()
	err := s.keep(ctx, line, result)
	cancel()
	if <-there {
		s.h.cfg.Control.Detach(s.cred.RunnerUUID)
	}
	return err
}

// keep looks after a line that is up. A runner that says why it cannot tell what it runs has the time that it needs for that.
func (s *session) keep(ctx context.Context, line *remote.Link, attached <-chan error) error {
	late := time.NewTicker(attachTimeout)
	defer late.Stop()
	recheck := time.NewTicker(s.h.cfg.Recheck)
	defer recheck.Stop()
	renew := time.NewTimer(s.renewIn(s.credential()))
	defer renew.Stop()
	joins, servers, changed := s.h.cfg.Control.Servers()
	s.tellServers(ctx, line, servers)
	for {
		select {
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "SHUTTING_DOWN", "the gateway is shutting down")
		case <-s.stopped:
			return s.why
		case <-line.Done():
			return line.Cause()
		case err := <-attached:
			if err != nil {
				return err
			}
			late.Stop()
			if err := s.h.cfg.Control.RetireRunnerCredentials(ctx, s.cred); err != nil {
				s.h.cfg.Logger.WarnContext(ctx, "older credentials of a runner could not be revoked", "runner", s.cred.RunnerID, "error", err)
			}
		case <-late.C:
			if line.Info().Refusal == "" {
				return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s did not say what it runs within %s", s.cred.RunnerID, attachTimeout)
			}
		case <-recheck.C:
			if err := s.valid(ctx); err != nil {
				return err
			}
		case <-changed:
			was := joins
			joins, servers, changed = s.h.cfg.Control.Servers()
			s.tellServers(ctx, line, servers)
			if joins == was {
				continue
			}
			// The others held this server to be gone, and took its lines away.
			if err := s.h.hold(ctx, s); err != nil {
				return err
			}
		case secret := <-line.Renewed():
			s.renewed(ctx, secret)
			renew.Reset(s.renewIn(s.credential()))
		case <-renew.C:
			next, err := s.renew(ctx, line)
			if err != nil {
				return err
			}
			renew.Reset(next)
		}
	}
}

// valid looks at the credential again. A store that cannot be read decides nothing.
func (s *session) valid(ctx context.Context) error {
	c := s.credential()
	_, err := s.h.cfg.Control.AuthenticateRunner(ctx, c.Secret, c.Identity)
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) {
		return err
	}
	return nil
}

// renew replaces the credential and returns when to do that again. A credential that is not valid any more is an error.
func (s *session) renew(ctx context.Context, line *remote.Link) (time.Duration, error) {
	old := s.credential()
	if early := s.h.cfg.Now().Before(old.RenewAt()); early { // another server has, meanwhile
		return s.renewIn(old), nil
	}
	retry := min(renewRetry, old.ExpiresAt.Sub(old.CreatedAt)/10)
	fresh, err := s.h.cfg.Control.RenewRunner(ctx, old)
	if err == nil {
		offering, cancel := context.WithTimeout(ctx, link.HelloTimeout)
		err = line.Offer(offering, fresh.Secret, fresh.ExpiresAt)
		cancel()
	}
	if fault.Is(err, fault.Unauthenticated) {
		return 0, err
	}
	if err != nil {
		s.h.cfg.Logger.WarnContext(ctx, "the credential of a runner could not be replaced yet", "runner", s.cred.RunnerID, "error", err)
		return retry, nil
	}
	s.mu.Lock()
	s.current = fresh
	s.mu.Unlock()
	if err := s.h.cfg.Control.RetireRunnerCredentials(ctx, fresh); err != nil {
		s.h.cfg.Logger.WarnContext(ctx, "older credentials of a runner could not be revoked", "runner", s.cred.RunnerID, "error", err)
	}
	return s.renewIn(fresh), nil
}

// renewIn returns when to replace a credential. Servers that have lines to the same runner do not all do it at the same moment.
func (s *session) renewIn(c *control.RunnerCredential) time.Duration {
	spread := max(c.ExpiresAt.Sub(c.CreatedAt)/renewSpread, 1)
	return c.RenewAt().Sub(s.h.cfg.Now()) + rand.N(spread) //nolint:gosec // no secret
}

// renewed takes in that the runner was given a credential by another server. One that it has not is passed over.
func (s *session) renewed(ctx context.Context, secret string) {
	c, err := s.h.cfg.Control.AuthenticateRunner(ctx, secret, s.credential().Identity)
	if err != nil || c.RunnerUUID != s.cred.RunnerUUID {
		s.h.cfg.Logger.WarnContext(ctx, "a runner says that its credential was replaced, and has none that is valid", "runner", s.cred.RunnerID, "error", err)
		return
	}
	s.mu.Lock()
	s.current = c
	s.mu.Unlock()
}

// tellServers tells the runner which servers are the gateway, where there are several.
func (s *session) tellServers(ctx context.Context, line *remote.Link, all []store.Server) {
	var reachable []link.Server
	for _, o := range all {
		if o.Address != "" {
			reachable = append(reachable, link.Server{ID: o.ID, Address: o.Address})
		}
	}
	if len(all) == 0 {
		return
	}
	if err := line.Servers(s.h.cfg.Control.Self(), reachable); err != nil {
		s.h.cfg.Logger.WarnContext(ctx, "a runner could not be told which servers there are", "runner", s.cred.RunnerID, "error", err)
	}
}
