package resolver

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxConfBytes is how much of the file that names the servers is read.
const maxConfBytes = 64 << 10

// servers knows which servers to ask.
type servers struct {
	fixed []netip.AddrPort
	path  string
	log   *slog.Logger

	mu    sync.Mutex
	named []netip.AddrPort
	// looked is when the file was looked at, seen what it was then.
	looked time.Time
	seen   os.FileInfo
}

// list returns the servers in force: those that the operator named, else those of the file, read again when it changed. A
// file that cannot be read, as in the moment in which it is replaced, leaves what was known.
func (s *servers) list() []netip.AddrPort {
	if len(s.fixed) > 0 {
		return s.fixed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= ConfigPoll {
		s.looked = now
		s.look()
	}
	return s.named
}

func (s *servers) look() {
	info, err := os.Stat(s.path)
	if err == nil && s.seen != nil && os.SameFile(info, s.seen) && info.ModTime().Equal(s.seen.ModTime()) && info.Size() == s.seen.Size() {
		return
	}
	var named []netip.AddrPort
	if err == nil {
		named, err = readServers(s.path)
	}
	if err != nil {
		s.log.Warn("the file that names the name servers cannot be read", "path", s.path, "error", err)
		return
	}
	s.seen = info
	if !slices.Equal(named, s.named) {
		s.named = named
		s.log.Info("names are looked up at", "servers", named)
	}
}

// readServers reads the servers that a file names, as the C library reads it. Lines that it cannot use, it passes over.
func readServers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfBytes))
	if err != nil {
		return nil, err
	}
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, text := range conf.Servers {
		if addr, err := netip.ParseAddr(text); err == nil && len(out) < MaxServers {
			out = append(out, netip.AddrPortFrom(addr, 53))
		}
	}
	return out, nil
}
