package ingress

import (
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// open counts the requests under way.
type open struct {
	mu        sync.Mutex
	all       int
	ofOrg     map[string]int
	ofSandbox map[string]int
}

func newOpen() *open { return &open{ofOrg: map[string]int{}, ofSandbox: map[string]int{}} }

// enter counts a request of an organization to a sandbox. The id need not be one: what is not found leaves at once.
func (o *open) enter(org, id string) (leave func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.all >= MaxOpen:
		return nil, tooMany("%d requests to ports of sandboxes are under way, as many as this server takes at a time", MaxOpen)
	case o.ofOrg[org] >= MaxOpenOfOrg:
		return nil, tooMany("%d requests to ports of this organization's sandboxes are under way, as many as one may have at a time", MaxOpenOfOrg)
	case o.ofSandbox[org+"/"+id] >= MaxOpenOfSandbox:
		return nil, tooMany("%d requests to ports of this sandbox are under way, as many as one may have at a time", MaxOpenOfSandbox)
	}
	o.all++
	o.ofOrg[org]++
	o.ofSandbox[org+"/"+id]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all--
		less(o.ofOrg, org)
		less(o.ofSandbox, org+"/"+id)
	}, nil
}

func less(m map[string]int, key string) {
	if m[key]--; m[key] == 0 {
		delete(m, key)
	}
}

func tooMany(format string, args ...any) error {
	return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, format, args...).
		WithHint("end requests and connections that are not used, or try again").WithRetry(time.Second)
}
