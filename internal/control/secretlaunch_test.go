package control_test

import (
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/keyring"
)

// using is a launch with secrets, ENV=STORE/PATH#FIELD each.
func using(refs ...string) *specpb.Launch {
	l := &specpb.Launch{}
	for _, ref := range refs {
		env, rest, _ := strings.Cut(ref, "=")
		name, path, _ := strings.Cut(rest, "/")
		path, field, _ := strings.Cut(path, "#")
		l.SecretStores = append(l.SecretStores, &specpb.SecretStoreUse{StoreName: name, Secrets: []*specpb.SecretUse{{Path: path, Field: field, EnvVar: env}}})
	}
	return l
}

// TestLaunchWithSecrets: the sandbox has the values, its record has where they are from.
func TestLaunchWithSecrets(t *testing.T) {
	w := newSecretWorld(t)
	_, err := w.svc.PutSecret(w.ctx(), w.admin, "team", "single", map[string][]byte{"token": []byte("one")})
	w.must(err)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "several", map[string][]byte{"value": []byte("default"), "other": []byte("x")})
	w.must(err)
	sb := w.running(using("PASSWORD=team/db#password", "TOKEN=team/single", "DEFAULT=team/several", "TOKEN=team/single"))
	for name, want := range map[string]string{"PASSWORD": "hunter2-canary", "TOKEN": "one", "DEFAULT": "default"} {
		if got := w.run(sb.ID, "printenv", name); got != want+"\n" {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	var said string
	for _, event := range e.Timeline {
		if event.Name == "secrets" {
			said += event.Message
		}
	}
	for _, part := range []string{"PASSWORD from secret store team, path db, field password, version 1", "TOKEN from secret store team, path single, field token, version 2", "field value, version 3"} {
		if !strings.Contains(said, part) {
			t.Errorf("explain says %q, want %q", said, part)
		}
	}
	if strings.Contains(said, "hunter2") {
		t.Errorf("a value is in the timeline: %s", said)
	}
	// What runs keeps what it was given; the next launch gets what is there then.
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "single", map[string][]byte{"token": []byte("two")})
	w.must(err)
	if got := w.run(sb.ID, "printenv", "TOKEN"); got != "one\n" {
		t.Errorf("a sandbox that runs has %q", got)
	}
	if got := w.run(w.running(using("TOKEN=team/single")).ID, "printenv", "TOKEN"); got != "two\n" {
		t.Errorf("the next launch has %q", got)
	}
}

// TestLaunchRefusedForSecrets: what is missing is named, all of it, before anything is made; of others nothing is told.
func TestLaunchRefusedForSecrets(t *testing.T) {
	w := newSecretWorld(t)
	other := w.otherOrg("other")
	_, err := w.svc.CreateSecretStore(w.ctx(), other, "theirs")
	w.must(err)
	try := func(l *specpb.Launch) error {
		t.Helper()
		_, _, err := w.svc.Launch(w.ctx(), w.user, l)
		return err
	}
	err = try(using("A=theirs/x", "B=nobodys/x", "C=team/none", "D=team/db#none", "E=team/db"))
	wantFault(t, err, fault.Precondition, fault.ReasonSecretStoreUnknown,
		`secret_stores[0].store_name: there is no secret store "theirs"`, `secret_stores[1].store_name: there is no secret store "nobodys"`,
		`secret_stores[2].secrets[0]: secret store team has nothing at path "none"`, `secret_stores[3].secrets[0]: path db of secret store team has no field "none"; it has password, user`,
		`secret_stores[4].secrets[0]: path db of secret store team has no field "value"`)
	wantFault(t, try(using("C=team/none")), fault.Precondition, fault.ReasonSecretNotFound)
	_, err = w.svc.Plan(w.ctx(), w.user, using("C=team/none"))
	wantFault(t, err, fault.Precondition, fault.ReasonSecretNotFound)
	twice := using("A=team/db#user")
	twice.EnvironmentVariables = map[string]string{"A": "b"}
	large := using("A=team/db#user")
	for range 9 {
		large.Args = append(large.Args, strings.Repeat("x", launch.MaxArg))
	}
	many := using()
	for range launch.MaxSecrets + 1 {
		many.SecretStores = append(many.SecretStores, using("A=team/db#user").SecretStores...)
	}
	for name, l := range map[string]*specpb.Launch{
		"also in the environment": twice, "two values": using("A=team/db#user", "A=team/db#password"), "no variable": using("=team/db#user"),
		"a wrong variable": using("A B=team/db"), "no path": using("A=team"), "no store": using("A=/x"), "too many": many, "large": large,
		"no secrets": {SecretStores: []*specpb.SecretStoreUse{{StoreName: "team"}}},
	} {
		if err := try(l); !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := strings.Repeat("x", control.MaxSecretValue)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "big", map[string][]byte{"value": []byte(big)})
	w.must(err)
	var refs []string
	for i := range launch.MaxArgv/control.MaxSecretValue + 1 {
		refs = append(refs, "V"+strings.Repeat("I", i)+"=team/big")
	}
	wantFault(t, try(using(refs...)), fault.Precondition, fault.ReasonLimitExceeded)
	if w.count() != 0 || w.reserved("r1") != (core.Amounts{}) {
		t.Errorf("%d sandboxes were left behind, %+v reserved", w.count(), w.reserved("r1"))
	}
	w.cfg.Keys = ring(t, 9)
	w.restart()
	w.attach("r1")
	wantFault(t, try(using("A=team/db#user")), fault.Precondition, keyring.ReasonKeyMissing)
}

// TestRunnerWithoutSecrets: one of a release that takes none is not chosen, and is given none.
func TestRunnerWithoutSecrets(t *testing.T) {
	w := newWorldWith(t, control.Config{Keys: ring(t, 1)}, fake.Config{Info: backend.Info{Features: []string{"image:host"}}})
	_, err := w.svc.CreateSecretStore(w.ctx(), w.admin, "team")
	w.must(err)
	_, err = w.svc.PutSecret(w.ctx(), w.admin, "team", "db", map[string][]byte{"user": []byte("app")})
	w.must(err)
	_, _, err = w.svc.Launch(w.ctx(), w.user, using("A=team/db#user"))
	if err == nil || !strings.Contains(err.Error(), "takes no secrets") {
		t.Errorf("%v", err)
	}
	if w.count() != 0 {
		t.Errorf("%d sandboxes", w.count())
	}
}

// run runs a command in a sandbox and returns what it printed.
func (w *world) run(id string, argv ...string) string {
	w.Helper()
	p, err := w.svc.Exec(w.ctx(), w.user, id, execOf(argv...))
	w.must(err)
	out, _ := output(w, p)
	return out
}
