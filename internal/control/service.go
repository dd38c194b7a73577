// Package control holds the use cases: what callers may ask of the product, in the order in which effects must happen. It
// knows the store, the links to runners and the core, and no transport: fronts convert, call and convert.
//
// Every use case takes the caller first and checks its role first (access.go). Configuration is written as revisions
// (profiles.go, runners.go, zones.go); a launch is a plan, one transaction and a start (launch.go); what runners observe
// becomes statuses (observe.go). A thing of another organization behaves exactly like a missing one, because every read
// names the organization.
//
// One Service is the only writer of the status of the sandboxes whose runners are attached to it.
package control

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store"
)

// Config is what a Service needs. Only Store is required.
type Config struct {
	Store store.Store
	// Now is the clock, NewID makes UUIDs, Seed feeds the random part of placement, Random the secrets of tokens.
	Now    func() time.Time
	NewID  func() string
	Seed   func() uint64
	Random io.Reader
	// Logger gets what nobody is told otherwise; nil discards.
	Logger *slog.Logger
	// LostAfter is how long a runner may be out of contact before its sandboxes are LOST; 0 is DefaultLostAfter.
	LostAfter time.Duration
	// Retention is how long sandboxes that have ended are kept; 0 is DefaultRetention.
	Retention time.Duration
	// AuditRetention is how long rows of the audit are kept; 0 is DefaultAuditRetention.
	AuditRetention time.Duration
	// CredentialTTL is how long a runner's credential is valid; 0 is DefaultCredentialTTL.
	CredentialTTL time.Duration
	// Advertise is the HOST:PORT where runners reach this server and no other of those that share its database, "" for nowhere.
	Advertise string
	// ServerBeat is how often the servers that share a database look at each other; 0 is DefaultServerBeat.
	ServerBeat time.Duration
	// CheckSpec says what no backend would take of a layer that is written, in an Invalid fault; nil checks nothing. The core takes
	// the pod fragment for an open object, so its keys are known only here.
	CheckSpec func(*specpb.ProfileSpec) error
	// CheckCarried says what layers 1 to 3 of a binding carry that only runners with allow_privileged_profile_annotations take; nil
	// checks nothing.
	CheckCarried func(*specpb.ProfileSpec) []guard.Violation
	// Keys wraps the keys of secret stores; nil: none can be made or read here.
	Keys keyring.Ring
	// Releases are what the release channels offer; nil: what runs now.
	Releases rollout.Releases
	// Meter counts; nil counts nothing.
	Meter Meter
	// PortHost is the host that a port of a sandbox has at the gateway; nil: none has one.
	PortHost func(sandboxID string, port int32) string
	// PortLink is the URL at which a browser with a pass is let in to a port; nil: none has one.
	PortLink func(sandboxID string, port int32, pass string) (string, error)
}

// Service is the use cases. Methods are safe for concurrent use.
type Service struct {
	store  store.Store
	now    func() time.Time
	newID  func() string
	seed   func() uint64
	random io.Reader
	log    *slog.Logger
	meter  Meter
	keys   keyring.Ring

	portHost     func(string, int32) string
	portLink     func(string, int32, string) (string, error)
	followed     followed
	lostAfter    time.Duration
	serverBeat   time.Duration
	credential   time.Duration
	retention    time.Duration
	auditFor     time.Duration
	checkSpec    func(*specpb.ProfileSpec) error
	checkCarried func(*specpb.ProfileSpec) []guard.Violation
	// born is when this process began to be responsible: a runner that was never seen is out of contact since then.
	born time.Time
	// here is the place of Bootstrap, a string. A server that is up may be given more runners by a further one, while it reads it.
	here atomic.Value
	// self names this process among the servers that share its database, from Recover on: it begins with the place.
	self, advertise string

	tasks    *tasks
	tokens   *tokenCache
	configs  *configCache
	used     *usedAmounts
	status   statusQueue
	audits   auditQueue
	cleanUps chan struct{}
	feed     *feed
	live     *liveTable
	contacts *contacts
	servers  *servers
	// doubts are launches whose commits may be late.
	doubts doubts
	// lines is held while the store is told of lines here, and for servers.ended.
	lines sync.Mutex
	names profileNames
	pools *poolTeller
	room  *roomWaits
	// leases are those that have not ended.
	leases *leaseTable

	releases    rollout.Releases
	deployments *deploymentTeller
}

// New returns a Service. ctx bounds its background work, which Close also ends.
func New(ctx context.Context, cfg Config) *Service {
	s := &Service{
		store: cfg.Store, now: cfg.Now, newID: cfg.NewID, seed: cfg.Seed, random: cfg.Random, log: cfg.Logger, lostAfter: cfg.LostAfter, portHost: cfg.PortHost, portLink: cfg.PortLink,
		advertise: cfg.Advertise, keys: cfg.Keys,
		checkSpec: cfg.CheckSpec, checkCarried: cfg.CheckCarried,
	}
	if s.meter = cfg.Meter; s.meter == nil {
		s.meter = noMeter{}
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.newID == nil {
		s.newID = uuid.NewString
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	if s.seed == nil {
		s.seed = randomSeed
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.retention = cfg.Retention; s.retention <= 0 {
		s.retention = DefaultRetention
	}
	if s.auditFor = cfg.AuditRetention; s.auditFor <= 0 {
		s.auditFor = DefaultAuditRetention
	}
	if s.credential = cfg.CredentialTTL; s.credential <= 0 {
		s.credential = DefaultCredentialTTL
	}
	if s.lostAfter <= 0 {
		s.lostAfter = DefaultLostAfter
	}
	if s.serverBeat = cfg.ServerBeat; s.serverBeat <= 0 {
		s.serverBeat = DefaultServerBeat
	}
	s.born = s.now()
	s.tasks = newTasks(ctx)
	s.tokens = newTokenCache()
	s.configs = newConfigCache()
	s.used = newUsedAmounts()
	s.feed = newFeed(s.now)
	s.live = newLiveTable(s.feed.touched)
	s.contacts = newContacts()
	s.servers = newServers()
	s.audits.turn = make(chan struct{}, 1)
	s.pools = newPoolTeller()
	s.room = newRoomWaits()
	s.leases = newLeaseTable()
	s.releases, s.deployments = cfg.Releases, newDeploymentTeller()
	s.configs.changed = func(orgID string) {
		s.pokePools(orgID)
		s.deployments.poke()
	}
	s.cleanUps = make(chan struct{}, maxCleanUps)
	return s
}

func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return binary.LittleEndian.Uint64(b[:])
}

// Close ends background work and waits for it. Sandboxes go on.
func (s *Service) Close() {
	s.StopWaiting()
	s.live.stopTimers()
	s.contacts.stopTimers()
	s.leases.stopTimers()
	s.tasks.close()
	s.closeAudits()
	s.leaveServers()
}

// Ready reports whether the store can be read and written.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ready(ctx) }

// tasks runs background work that outlives the call that began it, but not the Service.
type tasks struct {
	// run starts fn with the Service's context, unless it is closed. A closure, so that no context is kept in a struct.
	run    func(fn func(ctx context.Context)) bool
	cancel context.CancelFunc
	wait   func()
}

func newTasks(ctx context.Context) *tasks {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var group sync.WaitGroup
	closed := false
	return &tasks{
		run: func(fn func(context.Context)) bool {
			mu.Lock()
			defer mu.Unlock()
			if closed || ctx.Err() != nil {
				return false
			}
			group.Go(func() { fn(ctx) })
			return true
		},
		cancel: cancel,
		wait: func() {
			mu.Lock()
			closed = true
			mu.Unlock()
			group.Wait()
		},
	}
}

func (t *tasks) close() {
	t.cancel()
	t.wait()
}
