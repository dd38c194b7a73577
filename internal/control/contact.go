package control

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/runner"
)

// DefaultLostAfter is how long a runner may be out of contact before its sandboxes are declared LOST. It is longer than a
// restart of a machine, and shorter than the patience of somebody who waits for a result.
const DefaultLostAfter = 10 * time.Minute

// InstallStatus is how far the installation of a runner is.
type InstallStatus string

// The install statuses.
const (
	// InstallPending: no process has come yet.
	InstallPending InstallStatus = "PENDING"
	// InstallReady: a process came and can run sandboxes.
	InstallReady InstallStatus = "READY"
	// InstallFailed: the process says that it can run nothing.
	InstallFailed InstallStatus = "FAILED"
	// InstallDeleting: being drained; then the runner is gone.
	InstallDeleting InstallStatus = "DELETING"
)

// ConnectionStatus says whether the process of a runner is in contact.
type ConnectionStatus string

// The connection statuses.
const (
	Connected    ConnectionStatus = "CONNECTED"
	Disconnected ConnectionStatus = "DISCONNECTED"
)

// InstallError is why an installation failed.
type InstallError struct {
	Reason, Message string
	Hints           []string
	At              time.Time
}

// RunnerStatus is what is known of a runner's process. It is kept in memory: a heartbeat is never written.
type RunnerStatus struct {
	Install    InstallStatus
	Connection ConnectionStatus
	// ConnectedAt is zero unless connected; LastHeartbeat is when the process was last in contact, zero for never.
	ConnectedAt, LastHeartbeat time.Time
	// Info is what the process says of itself, nil unless it came.
	Info *backend.Info
	// Error is set while Install is FAILED.
	Error *InstallError
	// Pools are the warm pools of its bindings, while it is connected.
	Pools []backend.PoolStatus
	// Live counts the sandboxes that have not ended.
	Live int64
}

// attachment is one process being attached to its runner, from Attach to Detach. An observer that is late in noticing that
// its attachment is over must not speak for the next one, so it shows which one it belongs to.
type attachment struct {
	link   runner.Link
	cancel context.CancelFunc
}

// contact is the state of the line to one runner. Its fields are guarded by contacts.mu.
type contact struct {
	orgID, runnerUUID, runnerID string
	// link is nil until a process came.
	link runner.Link
	// attached is nil when no process is.
	attached  *attachment
	connected bool
	// capacity is what the store counts launches against: what the process said when that was written last.
	capacity core.Amounts
	// deleting: the runner goes as soon as nothing lives on it.
	deleting bool
	// embedded: the runner is part of this server, and no other reaches it.
	embedded bool
	// since is when the present state, connected or not, began.
	since time.Time
	// lost fires when the line was down for too long.
	lost *time.Timer
	// word is what servers say of their contact with it.
	word word
	// adopting bounds what is looked up for the runner at a time.
	adopting chan struct{}
}

func newContact(r *core.Runner, since time.Time) *contact {
	return &contact{orgID: r.OrgID, runnerUUID: r.ID, runnerID: r.RunnerID, since: since, embedded: embedded(r), adopting: make(chan struct{}, maxAdopting)}
}

// contacts are the lines to all runners, by UUID. A runner without an entry was never in contact and has nothing to lose.
type contacts struct {
	mu       sync.Mutex
	byRunner map[string]*contact
}

func newContacts() *contacts { return &contacts{byRunner: map[string]*contact{}} }

// get returns a copy of the state of one line.
func (c *contacts) get(runnerUUID string) (contact, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.byRunner[runnerUUID]; ok {
		return *k, true
	}
	return contact{}, false
}

// linkOf returns the link of a runner that is in contact, else nil and since when it is not.
func (c *contacts) linkOf(runnerUUID string) (runner.Link, time.Time) {
	k, _ := c.get(runnerUUID)
	if !k.connected {
		return nil, k.since
	}
	return k.link, k.since
}

func (c *contacts) stopTimers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.byRunner {
		if k.lost != nil {
			k.lost.Stop()
		}
	}
}

// inContact reports whether the process is there. One that cannot tell what it runs, because its cluster does not, is, too.
func (k *contact) inContact() bool {
	return k.connected || k.attached != nil && k.link.Info().Refusal != ""
}

// statusOf returns what is known of a runner's process.
func (s *Service) statusOf(r *core.Runner) RunnerStatus {
	k, known := s.contacts.get(r.ID)
	status := RunnerStatus{Install: InstallPending, Connection: Disconnected}
	if known && k.link != nil {
		info := k.link.Info()
		status.Info, status.Install = &info, InstallReady
		status.LastHeartbeat = k.heard(s.now())
		if k.connected {
			status.Pools = k.link.Pools()
		}
		if k.inContact() {
			status.Connection, status.ConnectedAt = Connected, k.since
		}
		if info.Refusal != "" {
			status.Install = InstallFailed
			status.Error = &InstallError{Reason: cmp.Or(info.RefusalReason, "BACKEND_UNUSABLE"), Message: info.Refusal, Hints: info.RefusalHints, At: k.since}
			if at := info.RefusedSince; !at.IsZero() && !at.After(s.now()) {
				status.Error.At = at
			}
		}
	}
	if r.DeletingSince != nil {
		status.Install = InstallDeleting
	}
	return status
}
