package config

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"syscall"
)

// maxRunning is the largest file about a running server, in bytes.
const maxRunning = 64 << 10

// WriteRunning writes what a server says about itself and returns the file, locked. The lock goes with the process, however that
// ends: a file that nobody has locked is of a server that was killed, also when another process has its id by now.
func WriteRunning(path string, raw []byte) (*os.File, error) {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) // where there are no locks, the process id has to do
	if _, err = f.Write(raw); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadRunning reads what a server said about itself, and tells whether that server still runs.
func ReadRunning(path string) (r Running, live bool) {
	f, err := os.Open(path)
	if err != nil {
		return r, false
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxRunning))
	if err != nil || json.Unmarshal(raw, &r) != nil || r.PID <= 0 {
		return r, false
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return r, false
	case errors.Is(err, syscall.EWOULDBLOCK):
		return r, true
	}
	err = syscall.Kill(r.PID, 0)
	return r, err == nil || errors.Is(err, syscall.EPERM)
}
