package podwire_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

func key(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(b), ed25519.SeedSize)))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestJournal(t *testing.T) {
	at := time.Date(2026, 11, 28, 1, 2, 3, 4, time.UTC)
	text := podwire.Hello(public(key('a')), "@berm-x") + podwire.Started(at) + podwire.Stopping(at, "STOPPED") +
		podwire.Ended(podwire.End{At: at, Exit: &wire.Exit{Code: 143, Signal: 15}, OutputBytes: 9})
	j, err := podwire.ReadJournal(strings.NewReader(text))
	if err != nil || !j.Key.Equal(public(key('a'))) || j.Socket != "@berm-x" || !j.StartedAt.Equal(at) || j.Why != "STOPPED" || j.End.Exit.Code != 143 || j.End.OutputBytes != 9 {
		t.Errorf("%+v, %v", j, err)
	}
	for cut := range len(text) { // It is read while it is written.
		j, err := podwire.ReadJournal(strings.NewReader(text[:cut]))
		if err != nil || j.End != nil {
			t.Fatalf("cut after %d: %+v, %v", cut, j, err)
		}
	}
	j, err = podwire.ReadJournal(strings.NewReader(podwire.Hello(public(key('a')), "@berm-x") + podwire.Failed(wire.Errorf(wire.CodeCommandNotFound, "no x"))))
	if err != nil || j.Failed.Code != wire.CodeCommandNotFound || j.Failed.Message != "no x" {
		t.Errorf("%+v, %v", j, err)
	}
	for _, bad := range []string{"started {}\n", "hello\n", "berm-init {\"version\":2}\n", "berm-init {\"version\":1,\"key\":\"x\"}\n", "berm-init x\n"} {
		if j, err := podwire.ReadJournal(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, j)
		}
	}
}

// TestStrangers: each side speaks to the other's key alone.
func TestStrangers(t *testing.T) {
	for name, tt := range map[string]struct {
		runner, runnerWants, init, initWants byte
		ok                                   bool
	}{
		"who belong together": {'r', 'i', 'i', 'r', true},
		"another runner":      {'x', 'i', 'i', 'r', false},
		"another init":        {'r', 'i', 'x', 'r', false},
	} {
		server, err := podwire.ServerConfig(key(tt.init), public(key(tt.initWants)))
		if err != nil {
			t.Fatal(err)
		}
		client, err := podwire.ClientConfig(key(tt.runner), public(key(tt.runnerWants)))
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		said := make(chan error, 1)
		go func() {
			c := tls.Server(b, server)
			err := c.Handshake()
			if err == nil {
				_, err = c.Write([]byte("x"))
			}
			said <- err
			b.Close()
		}()
		c := tls.Client(a, client)
		err = c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		a.Close()
		if served := <-said; (err == nil && served == nil) != tt.ok {
			t.Errorf("%s: %v, %v", name, err, served)
		}
	}
}

func FuzzReadJournal(f *testing.F) {
	f.Add(podwire.Hello(public(key('a')), "@berm-x") + podwire.Started(time.Unix(1, 0)) + podwire.Ended(podwire.End{}))
	f.Fuzz(func(t *testing.T, text string) {
		if j, err := podwire.ReadJournal(strings.NewReader(text)); (j == nil) == (err == nil) {
			t.Errorf("%+v, %v", j, err)
		}
	})
}
