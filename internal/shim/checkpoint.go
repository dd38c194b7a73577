package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// checkpointName is the record in a directory that holds a saved sandbox. It is written last: without it there is nothing.
const checkpointName = "checkpoint.json"

// blockBytes is the unit in which the kernel tells what a file takes.
const blockBytes = 512

// Checkpoint is the record of a saved sandbox.
type Checkpoint struct {
	Version int `json:"version"`
	// ID is the sandbox that was saved, At when.
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// Token is by which its init is known when it comes back.
	Token string `json:"token"`
	// Bytes is how much was saved.
	Bytes int64 `json:"bytes"`
}

// ReadCheckpoint returns the record of a directory; nil when nothing whole is there.
func ReadCheckpoint(dir string) (*Checkpoint, error) {
	c, err := readJSON(dir, checkpointName, &Checkpoint{})
	if c != nil && c.Version != ConfigVersion {
		return nil, fmt.Errorf("%s: version %d, this build knows %d", filepath.Join(dir, checkpointName), c.Version, ConfigVersion)
	}
	return c, err
}

// WriteCheckpoint completes a directory.
func WriteCheckpoint(dir string, c Checkpoint) error {
	c.Version = ConfigVersion
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var st unix.Stat_t // A disk is mostly holes.
		if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); err == nil {
			c.Bytes += st.Blocks * blockBytes
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "."+checkpointName)
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, checkpointName))
}

// ImageDir is where a suspended sandbox is saved.
func ImageDir(dir string) string { return filepath.Join(dir, "image") }

// DiskFile is the copy of the disk of a saved sandbox, in the directory that it was saved in.
func DiskFile(dir string) string { return filepath.Join(dir, "disk") }
