package networktest

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// protocolARP is the type of frames that ask for neighbours and answer, in network order.
const protocolARP = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8

// SendFrames sends frames over a link of a namespace, as who has a network stack of its own does, and returns how many answers about
// neighbours there were by the time that the last frame had done what delivered tells of.
func SendFrames(t testing.TB, path, link string, delivered func() bool, frames ...[]byte) (answers int) {
	t.Helper()
	var err error
	In(t, path, func() { answers, err = sendFrames(link, delivered, frames) })
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

func sendFrames(link string, delivered func() bool, frames [][]byte) (answers int, err error) {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocolARP)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	at := &unix.SockaddrLinklayer{Protocol: protocolARP, Ifindex: iface.Index}
	if err := unix.Bind(fd, at); err != nil {
		return 0, err
	}
	for _, f := range frames {
		if err := unix.Sendto(fd, f, 0, at); err != nil {
			return 0, err
		}
	}
	for end := time.Now().Add(patience); !delivered(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return 0, errors.New("the last frame was not delivered")
		}
	}
	buf := make([]byte, 2048)
	for {
		_, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
			answers++
		}
	}
}
