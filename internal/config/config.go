// Package config knows where things are kept on this machine, and what a running server leaves there for the command line of the same user.
package config

import (
	"os/user"
	"path/filepath"
)

// DefaultListen is where `berm serve` listens when nothing else is said.
const DefaultListen = "127.0.0.1:7070"

// Running is what a server writes about itself when it is ready, and removes when it ends.
type Running struct {
	PID int    `json:"pid"`
	URL string `json:"url"`
	// TokenFile holds the admin token, readable by the server's user alone.
	TokenFile string `json:"tokenFile"`
	// CAFile is the certificate to trust when the server speaks TLS.
	CAFile string `json:"caFile,omitempty"`
}

// StateDir is the XDG state directory of Berm: the default of `berm serve --data`.
func StateDir(getenv func(string) string) string {
	if d := getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "berm")
	}
	return filepath.Join(home(getenv), ".local", "state", "berm")
}

// RunningDir holds a file per running server of this user.
func RunningDir(getenv func(string) string) string {
	return filepath.Join(StateDir(getenv), "servers")
}

// ContextFile holds the contexts of the command line.
func ContextFile(getenv func(string) string) string {
	if d := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "berm", "config.yaml")
	}
	return filepath.Join(home(getenv), ".config", "berm", "config.yaml")
}

func home(getenv func(string) string) string {
	if h := getenv("HOME"); h != "" {
		return h
	}
	// A service often has no HOME; its user has a home all the same.
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
		return u.HomeDir
	}
	return string(filepath.Separator)
}
