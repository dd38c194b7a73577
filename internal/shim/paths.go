package shim

import "path/filepath"

// ConfigFile is where the configuration of a state directory is.
func ConfigFile(dir string) string { return filepath.Join(dir, configName) }

// OutputDir is where the spool of a state directory is.
func OutputDir(dir string) string { return filepath.Join(dir, outputName) }

// PIDFile is where the runtime writes the id of process 1: beside its bundle, which is on no disk where the server makes it.
func (c *Config) PIDFile() string { return filepath.Join(c.Bundle, pidName) }

func (c *Config) runtimeLog() string { return filepath.Join(c.Bundle, runtimeLogName) }

// UserNamespace is the path by which the config.json of a bundle names the user namespace that the shim makes, see Config.IDs.
func UserNamespace(bundle string) string { return filepath.Join(bundle, usersName) }

// SocketFile is where the shim listens. The path may be too long for a socket address.
func SocketFile(dir string) string { return filepath.Join(dir, socketName) }

// RuntimeLog returns the end of what the runtime logged, to be appended to a message; "" for nothing.
func (c *Config) RuntimeLog() string { return tail(c.runtimeLog()) }
