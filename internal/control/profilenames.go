package control

import (
	"context"
	"sync"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// maxProfileNames bounds the cache.
const maxProfileNames = 16384

// profileNames remembers what profiles are called, by UUID. A name never changes, and a UUID is never used again.
type profileNames struct {
	mu   sync.Mutex
	byID map[string]string
}

func (c *profileNames) get(id string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, ok := c.byID[id]
	return name, ok
}

func (c *profileNames) put(id, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil || len(c.byID) >= maxProfileNames {
		c.byID = map[string]string{}
	}
	c.byID[id] = name
}

// nameOf returns what a binding is selected by, of a profile of the organization that is there.
func (s *Service) nameOf(ctx context.Context, r store.Reader, orgID string, b core.Binding) (string, error) {
	if b.Alias != "" {
		return b.Alias, nil
	}
	if name, ok := s.names.get(b.ProfileID); ok {
		return name, nil
	}
	profile, err := readProfile(ctx, r, orgID, b.ProfileID)
	if err != nil {
		return "", err
	}
	s.names.put(profile.ID, profile.DisplayName)
	return profile.DisplayName, nil
}

// bindingNames returns what launches select the bindings of a runner by.
func (s *Service) bindingNames(ctx context.Context, r store.Reader, runner *core.Runner) ([]string, error) {
	names := make([]string, len(runner.Bindings))
	for i, b := range runner.Bindings {
		var err error
		if names[i], err = s.nameOf(ctx, r, runner.OrgID, b); err != nil {
			return nil, err
		}
	}
	return names, nil
}
