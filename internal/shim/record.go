package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxRecord is the largest state.json or exit.json that is read, in bytes.
	maxRecord = 256 << 10
	// exitRoom is what is reserved for exit.json, in bytes, and maxMessage the longest message in it: escaped, each byte
	// may take six.
	exitRoom   = 32 << 10
	maxMessage = 4 << 10
)

// Phase is how far a sandbox is, as its shim wrote it down.
type Phase string

// The phases of state.json.
const (
	// PhaseCreated: the shim is there, the runtime may be running.
	PhaseCreated Phase = "created"
	// PhasePrepared: the sandbox waits for Client.Begin. No main process was ever started in it.
	PhasePrepared Phase = "prepared"
	// PhaseRunning: the main process, or the idle init, runs.
	PhaseRunning Phase = "running"
	// PhaseStopping: a stop was asked for.
	PhaseStopping Phase = "stopping"
)

// Record is state.json.
type Record struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Phase   Phase  `json:"phase"`
	// Boot is the machine's boot id: process ids of another boot mean nothing.
	Boot    string `json:"boot"`
	ShimPID int    `json:"shim_pid"`
	// PID is process 1 of the sandbox as the host sees it, and PIDStart its start time in clock ticks since boot, which
	// together with Boot names it for good.
	PID       int       `json:"pid,omitempty"`
	PIDStart  uint64    `json:"pid_start,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// PausedAt is when the sandbox was frozen; zero while it runs.
	PausedAt time.Time `json:"paused_at,omitzero"`
	// OnDisk says that it has no processes meanwhile: it was saved, and Resume brings it back.
	OnDisk bool `json:"on_disk,omitempty"`
	// Session names this run of the main process's output.
	Session string `json:"session"`
}

// Reason says why a sandbox ended.
type Reason string

// The reasons of exit.json.
const (
	// ReasonExited: by itself. Reported whatever the code.
	ReasonExited Reason = "EXITED"
	// ReasonStopped: after a stop was asked for.
	ReasonStopped Reason = "STOPPED"
	// ReasonOutOfMemory: the kernel killed the main process, or all, at the memory limit.
	ReasonOutOfMemory Reason = "OUT_OF_MEMORY"
	// ReasonKilled: something killed process 1, and it was not the shim. Without a code when process 1 failed from inside.
	ReasonKilled Reason = "KILLED"
	// ReasonStartFailed: the runtime, the init or the main process could not start. There is no exit code.
	ReasonStartFailed Reason = "START_FAILED"
	// ReasonLost: the end was not observed. Never in exit.json; Inspect and Wait report it.
	ReasonLost Reason = "LOST"
)

// Exit is exit.json: how a sandbox ended.
type Exit struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Reason  Reason `json:"reason"`
	// ExitCode is what wait4 said of the sandbox's process 1, which ends with the main process's code: nil if nobody saw it.
	// 128 + n when signal n ended it.
	ExitCode *int32 `json:"exit_code,omitempty"`
	// Signal is the signal that ended process 1 itself, 0 for none.
	Signal int `json:"signal,omitempty"`
	// OOM says that the kernel killed something at the memory limit, OOMKills how often; the main process may have lived on.
	OOM      bool  `json:"oom,omitempty"`
	OOMKills int64 `json:"oom_kills,omitempty"`
	// Code is the error code of a failed start (wire.Code), Message says more for people.
	Code      string    `json:"code,omitempty"`
	Message   string    `json:"message,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at"`
	// OutputBytes is how much the main process printed in all.
	OutputBytes int64 `json:"output_bytes"`
}

// WriteRecord replaces state.json.
func WriteRecord(dir string, r Record) error {
	r.Version = ConfigVersion
	return replace(dir, stateName, r)
}

// ExitFile is room for exit.json, taken before it is needed: a disk that fills up meanwhile must not keep an end from being
// told.
type ExitFile struct {
	dir  string
	file *os.File
}

// ReserveExit takes the room.
func ReserveExit(dir string) (*ExitFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, "."+exitName+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(bytes.Repeat([]byte{' '}, exitRoom)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &ExitFile{dir: dir, file: f}, nil
}

// Commit writes exit.json, once. After an error it may be tried again.
func (r *ExitFile) Commit(e Exit) error {
	if _, err := os.Lstat(filepath.Join(r.dir, exitName)); err == nil {
		return fmt.Errorf("%s: %w", filepath.Join(r.dir, exitName), fs.ErrExist)
	}
	e.Version = ConfigVersion
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage], "")
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// What stays behind it is blank, which JSON allows.
	if _, err := r.file.WriteAt(append(data, '\n'), 0); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(r.file.Name(), filepath.Join(r.dir, exitName)); err != nil {
		return err
	}
	return syncDir(r.dir)
}

// ReadRecord returns state.json; nil when there is none.
func ReadRecord(dir string) (*Record, error) {
	r := &Record{}
	return readJSON(dir, stateName, r)
}

// ReadExit returns exit.json; nil when there is none.
func ReadExit(dir string) (*Exit, error) {
	e := &Exit{}
	return readJSON(dir, exitName, e)
}

func readJSON[T any](dir, name string, v *T) (*T, error) {
	path := filepath.Join(dir, name)
	data, err := readLimited(path, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// replace exchanges dir/name for v as JSON: whoever reads it, or is left by a killed writer, has the old or the new one.
// It is not flushed to the disk: what it says is about processes, and none outlives the machine. An end does; see ExitFile.
func replace(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "."+name+".tmp")
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, filepath.Join(dir, name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
