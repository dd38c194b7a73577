package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

// TestMissedChanges: what happened around the machine while the kernel told more than there was room for is found out, and what happens
// after that is heard.
func TestMissedChanges(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	n.lookEvery, n.hearBytes = time.Hour, 1 // It is made as small as the kernel lets it be.
	a := n.attach("one", mode("internet"))
	link, err := netlink.LinkByName(networktest.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	becomesPart := func(prefix string) {
		t.Helper()
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(prefix))}); err != nil {
			t.Fatal(err)
		}
	}
	n.check(a, map[string]error{"[2a02:9999::5]:443": nil, "[2a02:9998::5]:443": nil})
	round := 0
	n.until(func() bool {
		round++
		n.mu.Lock() // Whoever hears of a change waits for this.
		defer n.mu.Unlock()
		for i := range 64 {
			becomesPart(fmt.Sprintf("2a02:aaaa:%x:%x::/64", round, i))
		}
		return n.missed.Load() > 0
	})
	missed := n.missed.Load()
	n.mu.Lock()
	for i := range 64 {
		becomesPart(fmt.Sprintf("2a02:bbbb:%x::/64", i))
	}
	becomesPart("2a02:9999::/64") // The last: there is no room for it.
	n.mu.Unlock()
	n.until(func() bool { return errors.Is(n.reaches(a, "[2a02:9999::5]:443"), unix.ECONNREFUSED) })
	if n.missed.Load() == missed {
		t.Error("nothing was missed: the test does not test it")
	}
	becomesPart("2a02:9998::/64")
	n.until(func() bool { return errors.Is(n.reaches(a, "[2a02:9998::5]:443"), unix.ECONNREFUSED) })
}

// tale is a subscription that tells what it is given.
type tale struct {
	next   chan any // of messages, or an error
	closed chan struct{}
	once   sync.Once
}

func (s *tale) Receive() ([]mdl.Message, error) {
	select {
	case x := <-s.next:
		if err, ok := x.(error); ok {
			return nil, err
		}
		return x.([]mdl.Message), nil //nolint:forcetypeassert // it is one or the other
	case <-s.closed:
		return nil, unix.EBADF
	}
}

func (s *tale) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// TestHearsAgain: a subscription that breaks off is made anew however often that fails, and each time what was missed counts as a change;
// a message about something else does not. When the network is closed, so is the subscription.
func TestHearsAgain(t *testing.T) {
	n := open(t, networktest.New(t))
	woken, dials, refusals := make(chan struct{}, 1), make(chan *tale), 3
	ended := make(chan struct{})
	n.background(func() {
		defer close(ended)
		n.hear(ear{what: "tales", woken: woken, pause: time.Microsecond, concerns: func(m mdl.Message) bool { return m.Header.Type == 7 }, dial: func() (teller, error) {
			if refusals--; refusals >= 0 {
				return nil, unix.EMFILE
			}
			refusals = 3
			s := &tale{next: make(chan any), closed: make(chan struct{})}
			dials <- s
			return s, nil
		}})
	})
	about := func(typ mdl.HeaderType) []mdl.Message { return []mdl.Message{{Header: mdl.Header{Type: typ}}} }
	for range 2 {
		s := <-dials
		<-woken // By the subscription itself.
		s.next <- about(7)
		<-woken
		s.next <- fmt.Errorf("receive: %w", unix.ENOBUFS)
		<-woken
		s.next <- about(8)
		s.next <- about(8) // It has taken the one before.
		if len(woken) > 0 {
			t.Error("woken by what is of no concern")
		}
		s.next <- unix.EIO
		<-s.closed
	}
	last := <-dials
	n.cancel()
	<-last.closed
	<-ended
}
