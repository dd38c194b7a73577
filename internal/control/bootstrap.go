package control

import (
	"context"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// What a server finds or makes when it starts.
const (
	DefaultOrg     = "default"
	DefaultZone    = "local"
	DefaultProfile = "default"
	DefaultRunner  = "local"
	// AdminToken is the name of the token of the data directory.
	AdminToken = "admin"

	bootstrapActor = "bootstrap"
	// localCluster begins the cluster's name of a runner that is part of a server.
	localCluster = "local-"
	// defaultSpec needs no download and lets nothing out.
	defaultSpec = `{"container_image":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}`
)

// LocalRunner is a runner that is part of the server.
type LocalRunner struct {
	Name string
	// Zone, when not empty, is where the runner is from now on. Empty: where it is, DefaultZone for a new one.
	Zone string
}

// Bootstrap is what a server needs to be there.
type Bootstrap struct {
	Runners []LocalRunner
	// AdminSecret is what the data directory has as the admin token, "" for nothing.
	AdminSecret string
	// Place names the data directory where several may share one database, "" where the database is in it. A runner, with what
	// runs on it, and an admin token belong to one place.
	Place string
}

// Bootstrapped is what is there.
type Bootstrapped struct {
	Org *core.Org
	// Runners are those asked for, in that order.
	Runners []*core.Runner
	// AdminSecret is a new secret to be kept in the data directory, "" when the one given is valid.
	AdminSecret string
}

// Bootstrap makes what a server needs and does not find: the organization, the zone, the profile, the runners bound to it and
// the admin token, in one transaction. What is there is left as it is.
func (s *Service) Bootstrap(ctx context.Context, in Bootstrap) (*Bootstrapped, error) {
	out := &Bootstrapped{}
	_, err := s.Authenticate(ctx, in.AdminSecret)
	if err != nil && !fault.Is(err, fault.Unauthenticated) {
		return nil, err
	}
	if err != nil {
		if out.AdminSecret, err = s.newSecret(); err != nil {
			return nil, err
		}
	}
	failpoint.Hit(fpBootstrap)
	var broken []string
	err = s.store.Update(ctx, func(tx store.Tx) error {
		noted := &notingTx{Tx: tx}
		b := bootstrapper{Service: s, tx: noted, place: in.Place}
		if err := b.org(ctx); err != nil {
			return err
		}
		out.Org, out.Runners = b.found, nil
		if out.AdminSecret != "" {
			if err := b.token(ctx, out.AdminSecret); err != nil {
				return err
			}
		}
		for _, r := range in.Runners {
			runner, err := b.runner(ctx, r)
			if err != nil {
				return err
			}
			out.Runners = append(out.Runners, runner)
		}
		list, err := s.brokenByStart(ctx, tx, b.found.ID, noted.written)
		broken = list
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, b := range broken {
		s.log.ErrorContext(ctx, "what the command line says of runners breaks a policy test; the server starts nevertheless", "test", b)
	}
	s.here.Store(in.Place)
	s.configs.invalidate(out.Org.ID)
	s.tokens.clear()
	return out, nil
}

// bootstrapper is one run of Bootstrap in its transaction.
type bootstrapper struct {
	*Service
	tx    store.Tx
	place string
	found *core.Org
	fresh bool
}

func (b *bootstrapper) principal() core.Principal {
	return core.Principal{OrgID: b.found.ID, Actor: bootstrapActor, Role: core.RoleOperator}
}

func (b *bootstrapper) org(ctx context.Context) error {
	org, err := b.tx.OrgByName(ctx, DefaultOrg)
	if !fault.Is(err, fault.NotFound) {
		b.found = org
		return err
	}
	b.found, b.fresh = &core.Org{ID: b.newID(), Name: DefaultOrg, CreatedAt: b.now()}, true
	if err := b.tx.InsertOrg(ctx, b.found); err != nil {
		return err
	}
	o, err := zoneObject(&core.Zone{Meta: b.meta(b.principal(), "first start"), Name: DefaultZone})
	if err != nil {
		return err
	}
	return b.tx.Insert(ctx, o)
}

// ofPlace adds the place, if there is one, to a name.
func ofPlace(name, place string) string {
	if place == "" {
		return name
	}
	return name + "-" + place
}

// elsewhere reports whether a runner is part of a server at another place than the one given.
func elsewhere(r *core.Runner, place string) bool {
	return place != "" && embedded(r) && r.ClusterName != ofPlace(localCluster+r.RunnerID, place)
}

// embedded reports whether a runner is part of a server.
func embedded(r *core.Runner) bool { return strings.HasPrefix(r.ClusterName, localCluster+r.RunnerID) }

// token makes a new admin token and revokes those whose secrets the data directory has lost.
func (b *bootstrapper) token(ctx context.Context, secret string) error {
	name := ofPlace(AdminToken, b.place)
	old, err := b.tx.Tokens(ctx, b.found.ID)
	if err != nil {
		return err
	}
	for _, t := range old {
		if t.Name == name && t.CreatedBy == bootstrapActor && t.RevokedAt.IsZero() {
			if err := b.tx.RevokeToken(ctx, b.found.ID, t.ID, b.now()); err != nil {
				return err
			}
		}
	}
	return b.tx.InsertToken(ctx, &core.Token{
		ID: b.newID(), OrgID: b.found.ID, Name: name, Role: core.RoleOperator, Hash: hashSecret(secret), CreatedAt: b.now(), CreatedBy: bootstrapActor,
	})
}

// runner finds or makes a runner of this machine.
func (b *bootstrapper) runner(ctx context.Context, want LocalRunner) (*core.Runner, error) {
	if err := spec.CheckName("runner", want.Name); err != nil {
		return nil, err
	}
	o, err := b.tx.ObjectByName(ctx, store.KindRunner, b.found.ID, want.Name)
	if err == nil {
		return b.take(ctx, o, want)
	}
	if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	profile, err := b.profile(ctx)
	if err != nil {
		return nil, err
	}
	r := &core.Runner{
		Meta: b.meta(b.principal(), "runner of this machine"), RunnerID: want.Name, Zone: want.Zone, ClusterName: ofPlace(localCluster+want.Name, b.place),
		Bindings: []core.Binding{{ProfileID: profile.ID, Default: true}},
	}
	if r.Zone == "" {
		r.Zone = DefaultZone
	}
	if err := checkRunner(r); err != nil {
		return nil, err
	}
	if _, err := b.checkBindings(ctx, b.tx, r, nil); err != nil {
		return nil, err
	}
	if o, err = runnerObject(r); err != nil {
		return nil, err
	}
	if err := b.tx.Insert(ctx, o); err != nil {
		return nil, runnerExists(ctx, b.tx, r, err)
	}
	return runnerFrom(o)
}

// take finds out whether an existing runner is of this place: another has sandboxes that this one would miss, and call lost.
func (b *bootstrapper) take(ctx context.Context, o *store.Object, want LocalRunner) (*core.Runner, error) {
	r, err := runnerFrom(o)
	if err != nil {
		return nil, err
	}
	if elsewhere(r, b.place) {
		return nil, fault.Preconditionf("RUNNER_ELSEWHERE", "runner %s of this database belongs to another data directory", want.Name).
			WithHint("give this server's runner a name of its own with --runner, or start it with the data directory that it had; place.id in it is what the cluster name %s ends in", r.ClusterName)
	}
	return b.move(ctx, o, want.Zone)
}

// move puts an existing runner into the zone that the command line names.
func (b *bootstrapper) move(ctx context.Context, o *store.Object, zone string) (*core.Runner, error) {
	r, err := runnerFrom(o)
	if err != nil || zone == "" || zone == r.Zone || r.DeletingSince != nil {
		return r, err
	}
	patch := RunnerPatch{Mask: []string{"identity.zone"}, Runner: RunnerInput{Zone: zone, Reason: "zone given on the command line"}}
	next, _, err := b.reviseRunner(ctx, b.tx, b.principal(), o, r, patch)
	return next, err
}

// profile finds or makes the profile that new runners bind.
func (b *bootstrapper) profile(ctx context.Context) (*core.Profile, error) {
	found, err := readProfile(ctx, b.tx, b.found.ID, DefaultProfile)
	if !fault.Is(err, fault.NotFound) {
		return found, err
	}
	layer, err := spec.ParseLayer([]byte(defaultSpec))
	if err != nil {
		return nil, err
	}
	o, err := profileObject(&core.Profile{
		Meta: b.meta(b.principal(), "first start"), DisplayName: DefaultProfile, Description: "The image host, without a way out.", Spec: layer,
	})
	if err != nil {
		return nil, err
	}
	if err := b.tx.Insert(ctx, o); err != nil {
		return nil, err
	}
	return profileFrom(o)
}
