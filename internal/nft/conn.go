package nft

import (
	"errors"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// SocketBytes is the size of the buffers between here and the kernel: each rule of a step is answered, and all steps are whole.
const SocketBytes = 8 << 20

// Open returns a connection to the kernel's rules, of the network namespace of the thread that uses it.
func Open() (*nftables.Conn, error) { return nftables.New(nftables.WithSockOptions(roomy)) }

func roomy(c *netlink.Conn) error {
	return errors.Join(c.SetReadBuffer(SocketBytes), c.SetWriteBuffer(SocketBytes))
}
