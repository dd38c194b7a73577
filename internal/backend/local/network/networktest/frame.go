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
// neighbours came within a moment.
func SendFrames(t testing.TB, path, link string, frames ...[]byte) (answers int) {
	t.Helper()
	var err error
	In(t, path, func() { answers, err = sendFrames(link, frames) })
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// moment is how long an answer may take that should not come.
const moment = 200 * time.Millisecond

func sendFrames(link string, frames [][]byte) (answers int, err error) {
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
	buf := make([]byte, 2048)
	for end := time.Now().Add(moment); ; {
		if await(fd, unix.POLLIN, time.Until(end)) != nil {
			return answers, nil
		}
		if _, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil {
			return answers, err
		} else if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
			answers++
		}
	}
}
