package control

import (
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
)

// TestCachesDropWhatWasReadBeforeAWrite: a read that began before a write and ends after it must not stay.
func TestCachesDropWhatWasReadBeforeAWrite(t *testing.T) {
	configs := newConfigCache()
	_, epoch := configs.get("org")
	configs.invalidate("org")
	configs.put("org", &orgConfig{}, epoch)
	if cfg, _ := configs.get("org"); cfg != nil {
		t.Error("a configuration from before a write was kept")
	}
	_, epoch = configs.get("org")
	configs.invalidate("another")
	configs.put("org", &orgConfig{}, epoch)
	if cfg, _ := configs.get("org"); cfg == nil {
		t.Error("a write of another organization dropped a configuration")
	}

	now := time.Date(2026, 5, 14, 12, 0, 0, 0, time.UTC)
	tokens := newTokenCache()
	at := tokens.epoch()
	tokens.forget("id")
	tokens.put("hash", &core.Token{ID: "id"}, now, at)
	if _, ok := tokens.get("hash", now); ok {
		t.Error("a token from before a revocation was kept")
	}
	tokens.put("hash", &core.Token{ID: "id"}, now, tokens.epoch())
	if _, ok := tokens.get("hash", now.Add(tokenCacheTTL)); ok {
		t.Error("a token was kept for too long")
	}
	for i := range maxCachedTokens + 10 {
		tokens.put(string(rune(i)), &core.Token{}, now, tokens.epoch())
	}
	if len(tokens.byHash) > maxCachedTokens {
		t.Errorf("%d tokens are cached", len(tokens.byHash))
	}
}
