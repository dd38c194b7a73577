package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// TestFollowedLinks: who has many links followed keeps nobody else from his.
func TestFollowedLinks(t *testing.T) {
	now := time.Now()
	f := followed{}
	link := func(token string, n int) *pass {
		return &pass{Token: token, Nonce: fmt.Sprint(token, n), Until: now.Add(PortLinkTTL).Unix() + 1}
	}
	for n := range maxFollowedOfToken {
		if err := f.follow(link("a", n), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.follow(link("a", maxFollowedOfToken), now); !fault.HasReason(err, fault.ReasonLimitExceeded) {
		t.Errorf("one more: %v", err)
	}
	if err := f.follow(link("a", 0), now); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("again: %v", err)
	}
	if err := f.follow(link("b", 0), now); err != nil {
		t.Errorf("another's: %v", err)
	}
	if err := f.follow(link("a", maxFollowedOfToken), now.Add(2*PortLinkTTL)); err != nil {
		t.Errorf("later: %v", err)
	}
}
