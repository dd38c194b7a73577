package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// complete fills in defaults and refuses what makes no sense.
func (c *Config) complete() error {
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.ConnectionsPerSecond == 0 {
		c.ConnectionsPerSecond = DefaultConnectionsPerSecond
	}
	if c.ConnectionBurst == 0 {
		c.ConnectionBurst = DefaultConnectionBurst
	}
	if c.AllConnections == 0 {
		c.AllConnections = halfOfTable()
	}
	if c.Pool == 0 {
		c.Pool = DefaultPool
	}
	switch {
	case c.Connections < 1 || c.Connections > MaxConnections:
		return fmt.Errorf("%d connections for each sandbox: want 1 to %d", c.Connections, MaxConnections)
	case c.ConnectionsPerSecond < 1 || c.ConnectionsPerSecond > MaxConnectionsPerSecond:
		return fmt.Errorf("%d new connections per second for each sandbox: want 1 to %d", c.ConnectionsPerSecond, MaxConnectionsPerSecond)
	case c.ConnectionBurst < 1 || c.ConnectionBurst > MaxConnections:
		return fmt.Errorf("%d new connections at once for each sandbox: want 1 to %d", c.ConnectionBurst, MaxConnections)
	case c.AllConnections < 1 || c.AllConnections > MaxAllConnections:
		return fmt.Errorf("%d connections for all sandboxes together: want 1 to %d", c.AllConnections, MaxAllConnections)
	case c.Pool > MaxPool:
		return fmt.Errorf("%d network namespaces prepared ahead: at most %d", c.Pool, MaxPool)
	case c.BytesPerSecond > 0 && c.BytesPerSecond < MinBytesPerSecond:
		return fmt.Errorf("%d bytes per second for each sandbox: want at least %d", c.BytesPerSecond, MinBytesPerSecond)
	case len(c.Denied) > MaxDenied:
		return fmt.Errorf("%d ranges are closed: at most %d", len(c.Denied), MaxDenied)
	}
	if len(c.NAT64) > egress.MaxNAT64 {
		return fmt.Errorf("%d prefixes of translators (NAT64): at most %d", len(c.NAT64), egress.MaxNAT64)
	}
	for _, p := range c.NAT64 {
		if !egress.ValidNAT64(p) {
			return fmt.Errorf("%s is no prefix that a translator (NAT64) can have", p)
		}
	}
	for i, p := range c.Denied {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%s is no range of addresses", p)
		}
		c.Denied[i] = p.Masked()
	}
	if r := c.Range4; r.IsValid() && (!r.Addr().Is4() || r.Bits() < minBits4 || r.Bits() > maxBits4) {
		return fmt.Errorf("sandboxes cannot have their IPv4 addresses from %s: want a range of /%d to /%d", r, minBits4, maxBits4)
	}
	if r := c.Range6; r.IsValid() && (!r.Addr().Is6() || r.Addr().Is4In6() || r.Bits() < minBits6 || r.Bits() > maxBits6) {
		return fmt.Errorf("sandboxes cannot have their IPv6 addresses from %s: want a range of /%d to /%d", r, minBits6, maxBits6)
	}
	c.Range4, c.Range6 = c.Range4.Masked(), c.Range6.Masked()
	return nil
}

// start makes what all sandboxes share, once: table, gateways, forwarding; and then whoever answers names.
func (n *Network) start() error {
	n.starting.Lock()
	defer n.starting.Unlock()
	if n.ctx.Err() != nil {
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
	}
	n.mu.Lock()
	up := n.up
	n.mu.Unlock()
	if !up {
		n.firstTranslators()
		if err := n.setUp(nil); err != nil {
			return fmt.Errorf("network: %w", err)
		}
		n.background(n.watch)
	}
	return n.startNames()
}

// startNames starts whoever answers names. starting is held.
func (n *Network) startNames() error {
	if n.stop != nil || n.cfg.Up == nil {
		return nil
	}
	stop, err := n.cfg.Up(n)
	if err != nil {
		return fmt.Errorf("network: names: %w", err)
	}
	n.stop = stop
	return nil
}

// setUp makes what all sandboxes share, and the rules of those that live. After an error without any, nothing is left.
func (n *Network) setUp(living []*guest) (err error) {
	unlock, err := lockMachine()
	if err != nil {
		return err
	}
	defer unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, dir := range []string{n.dir, n.namespaces(), n.assigned()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil && len(living) == 0 {
			err = errors.Join(err, n.tearDownLocked())
		}
	}()
	if err := n.findBlock(); err != nil {
		return err
	}
	if err := n.makeAnchor(); err != nil {
		return err
	}
	failpoint.Hit(failAnchor)
	a, err := n.look()
	if err != nil {
		return err
	}
	n.around, n.mtu = *a, a.mtu
	if n.k, err = newKernel(n.names, n.block, &n.cfg); err != nil {
		return err
	}
	if err := n.writeTable(living); err != nil {
		return err
	}
	failpoint.Hit(failTable)
	if err := n.openWays(); err != nil {
		return err
	}
	failpoint.Hit(failForwarding)
	n.up = true
	if others := n.k.dropping(); len(others) > 0 {
		n.log.Warn("other firewall rules of this machine drop what is forwarded unless they let it pass; sandboxes reach nothing then", "tables", others, "links", n.prefix+"*")
	}
	return nil
}

// tearDown removes everything of this backend from the machine. No sandbox has a network.
func (n *Network) tearDown() error {
	unlock, err := lockMachine()
	if err != nil {
		return err
	}
	defer unlock()
	return n.tearDownLocked()
}

func (n *Network) tearDownLocked() error {
	n.up = false
	k := n.k
	if k == nil {
		var err error
		if k, err = newKernel(n.names, n.block, &n.cfg); err != nil {
			return err
		}
	}
	return errors.Join(n.closeWays(k), k.remove(), removeLink(n.anchor()), os.RemoveAll(n.dir))
}

// machineLock is held while something is changed that backends share: which ranges are taken, and forwarding.
const machineLock = "/run/berm-network.lock"

func lockMachine() (unlock func(), err error) {
	f, err := os.OpenFile(machineLock, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "lock", Path: machineLock, Err: err}
	}
	return func() { _ = f.Close() }, nil
}

// findBlock takes the block that an earlier server wrote down, whose sandboxes may live; else one that nothing on the machine
// overlaps with, and writes that down.
func (n *Network) findBlock() error {
	data, err := os.ReadFile(n.names.block())
	if err == nil {
		var b block
		if err := json.Unmarshal(data, &b); err != nil || !b.Range4.IsValid() {
			return fmt.Errorf("%s cannot be read: %w", n.names.block(), errors.Join(err, os.ErrInvalid))
		}
		n.block = b
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a, err := n.look()
	if err != nil {
		return err
	}
	var b block
	if b.Range4, err = choose(n.cfg.Range4, DefaultRange4, blockBits4, n.table, a.taken); err != nil {
		return err
	}
	if n.six {
		if b.Range6, err = choose(n.cfg.Range6, DefaultRange6, blockBits6, n.table, a.taken); err != nil {
			return err
		}
	}
	data, err = json.Marshal(b)
	if err != nil {
		return err
	}
	temp := filepath.Join(n.dir, ".block.json")
	if err := errors.Join(os.WriteFile(temp, data, 0o600), os.Rename(temp, n.names.block())); err != nil {
		return err
	}
	failpoint.Hit(failBlock)
	n.block = b
	return nil
}

// choose returns a free block of the range asked for, or else of a default one; beginning at a place by the backend's name, so
// that two backends rarely want the same.
func choose(want netip.Prefix, otherwise string, bits int, name string, taken []netip.Prefix) (netip.Prefix, error) {
	all := want
	if !all.IsValid() {
		all = netip.MustParsePrefix(otherwise)
	}
	bits = max(bits, all.Bits())
	count := 1 << min(bits-all.Bits(), 16)
	first := int(hash(name)) % count
	var other netip.Prefix
	for i := range count {
		p := nth(all, bits, (first+i)%count)
		at := slices.IndexFunc(taken, p.Overlaps)
		if at < 0 {
			return p, nil
		}
		other = taken[at]
	}
	return netip.Prefix{}, fault.Preconditionf(fault.ReasonBackendUnsupported, "sandboxes cannot have addresses from %s: this machine has %s", all, other).
		WithHint("give the server a range that this machine has no address in and no route to: --sandbox-range")
}

// hash spreads names over numbers.
func hash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// nth returns the n-th range of some bits within another.
func nth(all netip.Prefix, bits, n int) netip.Prefix {
	a := all.Addr().AsSlice()
	for i := range 16 { // The lowest bit of n becomes the last bit of the new prefix.
		if bit := bits - 1 - i; bit >= all.Bits() && n>>i&1 == 1 {
			a[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	addr, _ := netip.AddrFromSlice(a)
	return netip.PrefixFrom(addr, bits)
}
