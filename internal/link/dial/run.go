package dial

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/link/serve"
	"github.com/bermhq/berm/internal/runner"
)

// A line that ended is opened again, at first after about the shorter of these.
const (
	minRetry = 250 * time.Millisecond
	maxRetry = 30 * time.Second
	// renewalsApart is how far apart servers at most replace a credential that both knew.
	renewalsApart = time.Minute
)

// Config is what Run needs.
type Config struct {
	Gateway *Gateway
	// Dir is the state directory, Credential what it has.
	Dir        string
	Credential *Credential
	Link       runner.Link
	Logger     *slog.Logger
	// Up, when not nil, is called whenever the gateway has opened its session.
	Up func()
	// Heartbeat and Silence are those of package link where they are 0.
	Heartbeat, Silence time.Duration
}

// Run keeps lines to the gateway until ctx ends, and returns nil then; or until the gateway refuses the runner for good.
func Run(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	d := &dialer{cfg: cfg, cred: cfg.Credential, replaced: make(chan struct{}), lines: newLines()}
	d.lines.follow = func(id string) { d.group.Go(func() { d.follow(ctx, id) }) }
	d.lines.crowded = func(waiting int) {
		d.cfg.Logger.WarnContext(ctx, "the gateway names more servers than a runner keeps lines to; the others wait until some are gone", "most", link.MaxServers, "waiting", waiting)
	}
	defer d.group.Wait()
	defer cancel()
	var wait pause
	for o := d.lines.byURL(ctx); o != nil; o = d.lines.byURL(ctx) {
		began, secret := time.Now(), d.credential().Secret
		err := d.once(ctx, cfg.Gateway, o)
		if ctx.Err() != nil {
			break
		}
		// Whoever has another line, or another credential by now, has not been refused.
		if final(err) && secret == d.credential().Secret && !d.anyUp() {
			return err
		}
		wait.sleep(ctx, d, cfg.Gateway, err, time.Since(began))
	}
	return nil
}

// follow keeps a line to one server for as long as the gateway names it. No answer of it is final: its address may be another's by now.
func (d *dialer) follow(ctx context.Context, id string) {
	var wait pause
	for o := d.lines.byAddress(ctx, id); o != nil; o = d.lines.byAddress(ctx, id) {
		began := time.Now()
		g, err := d.cfg.Gateway.at(o.address)
		if err == nil {
			err = d.once(ctx, g, o)
		} else {
			d.lines.end(o)
		}
		if ctx.Err() == nil {
			wait.sleep(ctx, d, g, err, time.Since(began))
		}
	}
}

// pause is how long one waits before a line is opened again.
type pause struct{ retry time.Duration }

// sleep waits after a line, which took so long. Many runners lose the same gateway at the same moment: they do not come back at the same
// one.
func (p *pause) sleep(ctx context.Context, d *dialer, g *Gateway, err error, took time.Duration) {
	if p.retry == 0 || took > maxRetry { // it was up, or it took long enough
		p.retry = minRetry
	}
	wait := p.retry/2 + rand.N(p.retry/2) //nolint:gosec // no secret
	d.cfg.Logger.WarnContext(ctx, "no line to the gateway; sandboxes go on", "gateway", g.URL, "error", err, "retry", wait.Round(time.Millisecond))
	p.retry = min(2*p.retry, maxRetry)
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// final reports whether trying again is of no use: nothing but a person helps.
func final(err error) bool {
	return fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) || fault.HasReason(err, fault.ReasonLinkVersion) || fault.HasReason(err, fault.ReasonRunnerEmbedded)
}

type dialer struct {
	cfg   Config
	lines *lines
	group sync.WaitGroup

	mu   sync.Mutex
	cred *Credential
	// kept is when cred was stored; replaced is closed, and replaced, when the credential is.
	kept     time.Time
	replaced chan struct{}
}

func (d *dialer) credential() *Credential {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cred
}

// renewed is serve.Config.Renewed.
func (d *dialer) renewed() (string, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cred.Secret, d.replaced
}

func (d *dialer) anyUp() bool {
	d.lines.mu.Lock()
	defer d.lines.mu.Unlock()
	return !d.lines.none()
}

// once opens a line and serves the gateway on it until it ends.
func (d *dialer) once(ctx context.Context, g *Gateway, o *line) error {
	defer d.lines.end(o)
	control, bulk, err := g.line(ctx, d.credential().Secret)
	if err != nil {
		return err
	}
	d.cfg.Logger.InfoContext(ctx, "connected", "gateway", g.URL, "runner", d.credential().RunnerID)
	return serve.Run(ctx, serve.Config{
		Link: d.cfg.Link, Keep: d.keep, Renewed: d.renewed, Logger: d.cfg.Logger, Heartbeat: d.cfg.Heartbeat, Silence: d.cfg.Silence,
		Up: func() {
			d.lines.open(o)
			if d.cfg.Up != nil {
				d.cfg.Up()
			}
		},
		Servers: func(self string, all []link.Server) {
			d.lines.learn(o, self, all)
		},
	}, control, bulk)
}

// keep stores a new credential. The next line is opened with it. Servers may replace the same one at the same moment: the one that ends
// last stays, as those older than it are revoked.
func (d *dialer) keep(secret string, expires time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.kept) < renewalsApart && !expires.After(d.cred.ExpiresAt) {
		return fault.Preconditionf("CREDENTIAL_OLDER", "another server gave this runner a credential that is valid for longer")
	}
	next := *d.cred
	next.Secret, next.ExpiresAt = secret, expires
	if err := next.Save(d.cfg.Dir); err != nil {
		return err
	}
	d.cred, d.kept = &next, time.Now()
	close(d.replaced)
	d.replaced = make(chan struct{})
	d.cfg.Logger.Info("a new credential was stored", "expires", expires)
	return nil
}
