package dial

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/serve"
	"github.com/bermhq/berm/internal/runner"
)

// A line that ended is opened again, at first after about the shorter of these.
const (
	minRetry = 250 * time.Millisecond
	maxRetry = 30 * time.Second
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

// Run keeps a line to the gateway until ctx ends, and returns nil then; or until the gateway refuses the runner for good.
func Run(ctx context.Context, cfg Config) error {
	d := &dialer{cfg: cfg, cred: cfg.Credential}
	retry := minRetry
	for {
		began := time.Now()
		err := d.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if final(err) {
			return err
		}
		if time.Since(began) > maxRetry { // it was up, or it took long enough
			retry = minRetry
		}
		// Many runners lose the same gateway at the same moment: they do not come back at the same one.
		wait := retry/2 + rand.N(retry/2) //nolint:gosec // no secret
		cfg.Logger.WarnContext(ctx, "no line to the gateway; sandboxes go on", "gateway", cfg.Gateway.URL, "error", err, "retry", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		retry = min(2*retry, maxRetry)
	}
}

// final reports whether trying again is of no use: nothing but a person helps.
func final(err error) bool {
	return fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) || fault.HasReason(err, fault.ReasonLinkVersion) || fault.HasReason(err, fault.ReasonRunnerEmbedded)
}

type dialer struct {
	cfg Config

	mu   sync.Mutex
	cred *Credential
}

func (d *dialer) credential() *Credential {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cred
}

// once opens a line and serves the gateway on it until it ends.
func (d *dialer) once(ctx context.Context) error {
	control, bulk, err := d.cfg.Gateway.line(ctx, d.credential().Secret)
	if err != nil {
		return err
	}
	d.cfg.Logger.InfoContext(ctx, "connected", "gateway", d.cfg.Gateway.URL, "runner", d.credential().RunnerID)
	return serve.Run(ctx, serve.Config{
		Link: d.cfg.Link, Keep: d.keep, Up: d.cfg.Up, Logger: d.cfg.Logger, Heartbeat: d.cfg.Heartbeat, Silence: d.cfg.Silence,
	}, control, bulk)
}

// keep stores a new credential. The next line is opened with it.
func (d *dialer) keep(secret string, expires time.Time) error {
	next := *d.credential()
	next.Secret, next.ExpiresAt = secret, expires
	if err := next.Save(d.cfg.Dir); err != nil {
		return err
	}
	d.mu.Lock()
	d.cred = &next
	d.mu.Unlock()
	d.cfg.Logger.Info("a new credential was stored", "expires", expires)
	return nil
}
