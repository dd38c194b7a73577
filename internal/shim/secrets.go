package shim

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Values that are on no disk pass from Start to the shim in a file that is in memory alone, as the last descriptor that a shim is born
// with. They then are where the environment of the sandbox is anyway: in its processes, its init and its shim.

// secretFile returns such a file, at its beginning.
func secretFile(env []string) (*os.File, error) {
	text, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("%d secrets cannot be passed on", len(env)) // the cause may have some of them
	}
	fd, err := unix.MemfdCreate("berm-secrets", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "secrets")
	_, err = f.Write(text)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("pass secrets on: %w", err)
	}
	return f, nil
}

// InheritedSecrets reads, in a shim, what Start passed on, and lets go of the file.
func (c *Config) InheritedSecrets() ([]string, error) {
	if !c.HasSecrets {
		return nil, nil
	}
	fd := uintptr(ProgramFD)
	if c.Sealed {
		fd++
	}
	f := os.NewFile(fd, "secrets")
	defer f.Close()
	var env []string
	if err := json.NewDecoder(f).Decode(&env); err != nil {
		return nil, fmt.Errorf("the secrets that were passed on cannot be read")
	}
	return env, nil
}
