package control

import (
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
)

const (
	// maxCachedTokens bounds the cache.
	maxCachedTokens = 4096
	// tokenCacheTTL is how long another gateway's revocation may go unnoticed here. A revocation made here is seen at once.
	tokenCacheTTL = 2 * time.Second
)

// tokenCache remembers tokens that the store has. What the store does not have is not remembered: guesses cannot fill it.
type tokenCache struct {
	mu     sync.Mutex
	byHash map[string]cachedToken
	// revocations counts forget calls: a token read before one is not stored after it.
	revocations uint64
}

type cachedToken struct {
	token *core.Token
	until time.Time
}

func newTokenCache() *tokenCache { return &tokenCache{byHash: map[string]cachedToken{}} }

func (c *tokenCache) get(hash string, now time.Time) (*core.Token, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byHash[hash]
	if !ok || !now.Before(e.until) {
		return nil, false
	}
	return e.token, true
}

func (c *tokenCache) epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revocations
}

func (c *tokenCache) put(hash string, t *core.Token, now time.Time, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.revocations {
		return
	}
	if len(c.byHash) >= maxCachedTokens {
		// Any one goes: with this many tokens in use within two seconds no choice is better than another.
		for k := range c.byHash {
			delete(c.byHash, k)
			break
		}
	}
	c.byHash[hash] = cachedToken{token: t, until: now.Add(tokenCacheTTL)}
}

// forget drops a token by id.
func (c *tokenCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revocations++
	for hash, e := range c.byHash {
		if e.token.ID == id {
			delete(c.byHash, hash)
		}
	}
}

// clear drops all, after tokens were revoked that are not known by id.
func (c *tokenCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revocations++
	clear(c.byHash)
}
