package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Identity is a user and group of the host.
type Identity struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// IDs are consecutive ids of the host, of users and groups alike.
type IDs struct {
	First int `json:"first"`
	Count int `json:"count"`
}

type idMapping struct {
	ContainerID int `json:"containerID"`
	HostID      int `json:"hostID"`
	Size        int `json:"size"`
}

// Owner returns who process 1 of a bundle is on the host.
func Owner(bundle string) (Identity, error) {
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return Identity{}, err
	}
	var spec struct {
		Process struct {
			User struct {
				UID int `json:"uid"`
				GID int `json:"gid"`
			} `json:"user"`
		} `json:"process"`
		Linux struct {
			UIDMappings []idMapping `json:"uidMappings"`
			GIDMappings []idMapping `json:"gidMappings"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return Identity{}, fmt.Errorf("%s: %w", path, err)
	}
	uid, ok := onHost(spec.Process.User.UID, spec.Linux.UIDMappings)
	gid, ok2 := onHost(spec.Process.User.GID, spec.Linux.GIDMappings)
	if !ok || !ok2 {
		return Identity{}, fmt.Errorf("%s: the process's user %d:%d is not mapped", path, spec.Process.User.UID, spec.Process.User.GID)
	}
	return Identity{UID: uid, GID: gid}, nil
}

// onHost translates an id; without mappings there is no user namespace.
func onHost(id int, mappings []idMapping) (int, bool) {
	for _, m := range mappings {
		if id >= m.ContainerID && id < m.ContainerID+m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return id, len(mappings) == 0
}
