package dial

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/bermhq/berm/internal/link"
)

// TestServersWithoutEnd: a gateway that names other servers with every word does not have a runner follow without end; who waits is
// followed when another is let go.
func TestServersWithoutEnd(t *testing.T) {
	l := newLines()
	var mu sync.Mutex
	following := map[string]bool{}
	crowded := 0
	l.follow = func(id string) {
		mu.Lock()
		defer mu.Unlock()
		following[id] = true
	}
	l.crowded = func(int) { crowded++ }
	o := &line{}
	var last []link.Server
	for round := range 10 {
		last = nil
		for i := range link.MaxServers {
			last = append(last, link.Server{ID: fmt.Sprintf("%02d-%02d", round, i), Address: "192.0.2.1:1"})
		}
		l.learn(o, "self", last)
	}
	if len(following) != link.MaxServers || crowded != 9 {
		t.Fatalf("%d servers are followed, the limit is %d; it was said %d times", len(following), link.MaxServers, crowded)
	}
	// Those that are named no more are let go: their line has ended.
	for id := range following {
		if l.byAddress(context.Background(), id) != nil {
			t.Fatalf("%s is still dialed", id)
		}
		delete(following, id)
		break
	}
	if !following[last[0].ID] || len(following) != link.MaxServers {
		t.Errorf("%d are followed, and the one that waited is not: %v", len(following), following)
	}
}
