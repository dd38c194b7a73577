package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/store"
)

// eventSecrets is the event that says which secrets a sandbox was given, by place and version.
const eventSecrets = "secrets"

// picked is a field of a secret that a launch asks for, as it is kept.
type picked struct {
	home   *store.SecretStore
	row    *store.Secret
	field  string
	envVar string
}

// String says what goes where, and nothing of what it is.
func (k *picked) String() string {
	return fmt.Sprintf("%s from secret store %s, path %s, field %s, version %d", k.envVar, k.home.Name, k.row.Path, k.field, k.row.Version)
}

// given are the secrets of one hand-over.
type given struct {
	secrets []core.Secret
	// said is what the timeline says of them.
	said string
}

// event is what the timeline says; none without secrets.
func (g *given) event(at time.Time) []core.Event {
	if len(g.secrets) == 0 {
		return nil
	}
	return []core.Event{{Name: eventSecrets, At: at, Message: g.said}}
}

// pickSecrets finds what a launch asks for, with all that is missing in one fault.
func (s *Service) pickSecrets(ctx context.Context, orgID string, l *specpb.Launch) ([]picked, error) {
	if len(l.GetSecretStores()) == 0 {
		return nil, nil
	}
	var out []picked
	var missing *fault.Error
	err := s.store.View(ctx, func(r store.Reader) error {
		out, missing = nil, fault.Preconditionf(fault.ReasonSecretNotFound, "the request names secrets that the organization does not have")
		for i, use := range l.GetSecretStores() {
			at := fmt.Sprintf("secret_stores[%d]", i)
			home, err := r.SecretStore(ctx, orgID, use.GetStoreName())
			if fault.Is(err, fault.NotFound) {
				missing.Reason = fault.ReasonSecretStoreUnknown
				missing.WithField(at+".store_name", "there is no secret store %.80q", use.GetStoreName())
				continue
			}
			if err != nil {
				return err
			}
			for j, m := range use.GetSecrets() {
				k, why, err := pickSecret(ctx, r, home, m)
				switch {
				case err != nil:
					return err
				case why != "":
					missing.WithField(fmt.Sprintf("%s.secrets[%d]", at, j), "%s", why)
				case !slices.ContainsFunc(out, func(o picked) bool { return o.envVar == k.envVar }): // the same again says nothing new
					out = append(out, *k)
				}
			}
		}
		return nil
	})
	if err == nil {
		err = orNil(missing.WithHint("berm secret store list and berm secret list STORE show what there is"))
	}
	return out, err
}

// pickSecret finds one, or says what is not there.
func pickSecret(ctx context.Context, r store.Reader, home *store.SecretStore, m *specpb.SecretUse) (k *picked, why string, err error) {
	row, err := r.Secret(ctx, home.OrgID, home.ID, m.GetPath())
	if fault.Is(err, fault.NotFound) {
		return nil, fmt.Sprintf("secret store %s has nothing at path %.80q", home.Name, m.GetPath()), nil
	}
	if err != nil {
		return nil, "", err
	}
	field := m.GetField()
	switch {
	case field == "" && len(row.Fields) == 1:
		field = row.Fields[0]
	case field == "":
		field = launch.DefaultSecretField
	}
	if !slices.Contains(row.Fields, field) {
		return nil, fmt.Sprintf("path %s of secret store %s has no field %.80q; it has %s", row.Path, home.Name, field, strings.Join(row.Fields, ", ")), nil
	}
	return &picked{home: home, row: row, field: field, envVar: m.GetEnvVar()}, "", nil
}

// secretsOf returns what the secrets of a launch are now.
func (s *Service) secretsOf(ctx context.Context, orgID string, l *specpb.Launch) (*given, error) {
	all, err := s.pickSecrets(ctx, orgID, l)
	if err != nil || len(all) == 0 {
		return &given{}, err
	}
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	out := &given{}
	keys, opened := map[string][]byte{}, map[string]map[string][]byte{}
	said := make([]string, len(all))
	total := 0
	for i, k := range all {
		key := keys[k.home.ID]
		if key == nil {
			if key, err = ring.Unwrap(ctx, keyring.Wrapped{KeyID: k.home.KeyID, Text: k.home.WrappedKey}); err != nil {
				return nil, err
			}
			keys[k.home.ID] = key
		}
		at := k.home.ID + "/" + k.row.Path
		if opened[at] == nil {
			if opened[at], err = openSecret(key, k.row); err != nil {
				return nil, err
			}
		}
		value := opened[at][k.field]
		total += len(k.envVar) + len(value)
		out.secrets, said[i] = append(out.secrets, core.Secret{EnvVar: k.envVar, Value: core.SecretValue(value)}), k.String()
	}
	if total += launch.ArgvBytes(l); total > launch.MaxArgv {
		return nil, fault.Preconditionf(fault.ReasonLimitExceeded, "command, arguments, environment and secrets have %d bytes together, the limit is %d", total, launch.MaxArgv)
	}
	out.said = strings.Join(said, "; ")
	return out, nil
}

func openSecret(key []byte, row *store.Secret) (map[string][]byte, error) {
	text, err := keyring.Open(key, placeOf(row), row.Sealed)
	if err != nil {
		return nil, err
	}
	var fields map[string][]byte
	if json.Unmarshal(text, &fields) != nil { // the cause may have some of it
		return nil, fault.Internalf(nil, "secret %s is not as it was written", row.Path)
	}
	return fields, nil
}

// secretsAgain are the secrets of a sandbox that is handed over again. Its runner may have it already, with what it was given then: other
// versions would make a lie of what the timeline says.
func (s *Service) secretsAgain(ctx context.Context, sb *core.Sandbox) (*given, error) {
	g, err := s.secretsOf(ctx, sb.OrgID, sb.Launch)
	if err != nil || len(g.secrets) == 0 {
		return g, err
	}
	for _, e := range sb.Timeline {
		if e.Name == eventSecrets && e.Message == g.said {
			return g, nil
		}
	}
	return nil, fault.Preconditionf(fault.ReasonSecretNotFound, "secrets of the launch were written again, or removed, before its runner had it").WithHint("launch it again")
}
