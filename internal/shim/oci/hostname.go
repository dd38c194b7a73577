package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// hostnameTimeout bounds the naming of a container.
	hostnameTimeout = 20 * time.Second
	// hostnameRight is what naming takes, over the container's own kernel.
	hostnameRight = "CAP_SYS_ADMIN"
)

// HostnameVerb is the command of berm-shim that names the container that it runs in.
const HostnameVerb = "hostname"

// SetHostname gives a running container its host name. It is for kinds that bring a kernel of their own, into which nobody can go from
// outside: the runtime starts one more process in it, with the one right that naming takes and that process 1 shall not have. What it runs
// is the program of process 1, so nothing else may run in the container yet.
func (c *Container) SetHostname(name string) error {
	program, err := initProgram(c.Bundle)
	if err != nil {
		return err
	}
	return c.ask("exec", []string{"exec", "--cap", hostnameRight, c.ID, program, HostnameVerb, name}, hostnameTimeout)
}

// initProgram is the path of the program of process 1 of a bundle, inside.
func initProgram(bundle string) (string, error) {
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var spec struct {
		Process struct {
			Args []string `json:"args"`
		} `json:"process"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(spec.Process.Args) == 0 {
		return "", fmt.Errorf("%s: process 1 has no program", path)
	}
	return spec.Process.Args[0], nil
}
