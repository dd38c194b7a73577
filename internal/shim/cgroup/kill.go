package cgroup

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// killBatch is how many processes are held at a time while they are killed: each takes a descriptor.
const killBatch = 256

// kill sends SIGKILL to the processes that list names. The id of one that has ended may be another's by the time that it is used,
// outside of any sandbox: so each is taken hold of first, and is sent the signal only if it is on the list after that.
func kill(list func() ([]int, error)) error {
	pids, err := list()
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(pids, killBatch) {
		if err := killSome(batch, list); err != nil {
			return err
		}
	}
	return nil
}

func killSome(pids []int, list func() ([]int, error)) error {
	handles := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range handles {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case err == nil:
			handles[pid] = fd
		case !errors.Is(err, unix.ESRCH):
			return fmt.Errorf("take hold of process %d: %w", pid, err)
		}
	}
	still, err := list()
	if err != nil {
		return err
	}
	for _, pid := range still {
		fd, ok := handles[pid]
		if !ok {
			continue // It came later: the next call finds it.
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	return nil
}
