package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// startTimeField is the number of starttime in /proc/PID/stat, counted from the one behind the command's name.
const startTimeField = 19

// BootID names this boot of the machine.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// StartTime returns when a process was started, in clock ticks since boot: with its id and the boot it names the process.
// os.ErrNotExist is in the chain of the error when there is no such process.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, syscall.ESRCH) { // It ended between the opening and the reading of the file.
		err = fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	if err != nil {
		return 0, err
	}
	// The name is in parentheses and may contain anything, parentheses too.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= startTimeField {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return strconv.ParseUint(string(fields[startTimeField]), 10, 64)
}
