package fds_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/fds"
)

func TestCloseInherited(t *testing.T) {
	const first = 200
	own, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for fd, flags := range map[int]int{first - 1: 0, first: 0, first + 1: unix.O_CLOEXEC, first + 7: 0} {
		if err := unix.Dup3(int(own.Fd()), fd, flags); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if err := fds.CloseInherited(first); err != nil {
		t.Fatal(err)
	}
	for fd, open := range map[int]bool{first - 1: true, first: false, first + 1: true, first + 7: false} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); (err == nil) != open {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
}
