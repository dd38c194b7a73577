package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/oci"
)

// Limits and defaults.
const (
	// ConfigVersion is the version of Config that this build writes. A shim refuses any other.
	ConfigVersion = 1
	// MaxConfig is the largest config.json, in bytes.
	MaxConfig = 4 << 20
	// DefaultStopGrace is how long a shim that is itself asked to end (SIGTERM) lets the main process go on.
	DefaultStopGrace = 10 * time.Second
	// DefaultOutputLimit is how much main process output is kept, in bytes; older output is discarded.
	DefaultOutputLimit = 16 << 20
	// DefaultLinger is how long a shim stays reachable after the end, unless forgotten. All it knows is on disk by then.
	DefaultLinger = 30 * time.Second
	// DefaultStartTimeout bounds the time from the runtime's start to the main process's.
	DefaultStartTimeout = 60 * time.Second
)

// BinaryMode is the permission of the berm-shim binary that is bound into sandboxes; see the package documentation.
const BinaryMode = 0o711

// Names in the state directory.
const (
	configName  = "config.json"
	lockName    = "lock"
	stateName   = "state.json"
	exitName    = "exit.json"
	socketName  = "shim.sock"
	outputName  = "output"
	shimLogName = "shim.log"
	// pidName, runtimeLogName and usersName are in the bundle's directory.
	pidName        = "berm-pid"
	runtimeLogName = "berm-runtime.log"
	usersName      = "berm-users"
)

// Config is what a shim runs. It is written once, as config.json, and never changes.
type Config struct {
	// Version is set by Start.
	Version int `json:"version"`
	// Dir is the state directory, absolute. It must exist, belong to root and have mode 0700.
	Dir string `json:"-"`
	// ID is the container's name for the runtime: letters, digits, "_", "+", "-", ".".
	ID string `json:"id"`
	// Runtime is the absolute path of a runtime binary, RuntimeKind says how it is used; "" is oci.Runc. RuntimeFlags are
	// global flags for every call of it.
	Runtime      string   `json:"runtime"`
	RuntimeKind  oci.Kind `json:"runtime_kind,omitempty"`
	RuntimeFlags []string `json:"runtime_flags,omitempty"`
	// Program is a sealed copy of Runtime (oci.Seal) for the shim to run instead; nil without one. Whoever has to clean up after the
	// shim runs Runtime. Sealed says that there is one; set by Start.
	Program *os.File `json:"-"`
	Sealed  bool     `json:"sealed,omitempty"`
	// RuntimeRoot is the runtime's state directory (--root), absolute.
	RuntimeRoot string `json:"runtime_root"`
	// Bundle is the OCI bundle, absolute.
	Bundle string `json:"bundle"`
	// IDs are the host's ids that are the sandbox's own, from 0 on. The shim makes a user namespace of them that belongs to the first, and
	// config.json of the bundle names it: UserNamespace. nil leaves it to the runtime to make one, which root owns then.
	IDs *oci.IDs `json:"ids,omitempty"`
	// Network is the network namespace of the sandbox, for a config.json that names none: the runtime is started in it. "" leaves it to
	// config.json.
	Network string `json:"network,omitempty"`
	// Owner is who process 1 is on the host, as config.json of the bundle says; nil leaves it to the shim to read that.
	Owner *oci.Identity `json:"owner,omitempty"`
	// Cgroup says where config.json's cgroupsPath is found.
	Cgroup cgroup.Group `json:"cgroup"`
	// Meet is the absolute path, on the host, of a socket that the shim listens on until the init has dialled it: for kinds
	// whose init inherits nothing. Its directory belongs to the host's root and is bound read-only into the sandbox.
	Meet string `json:"meet,omitempty"`
	// Restore is a directory that Client.Checkpoint of another sandbox filled, absolute: this one begins as that one was then. Main
	// is the other's, which runs on; "" begins anew.
	Restore string `json:"restore,omitempty"`
	// HideUnified runs the runtime in a mount namespace without the cgroup v2 hierarchy of a hybrid host. crun needs it.
	HideUnified bool `json:"hide_unified,omitempty"`
	// HideSettings runs the runtime where /proc/sys/net is empty. runsc takes a namespace with the setting net.core.rmem_default for
	// the machine's own, which it refuses; from Linux 6.10 on every one has it.
	HideSettings bool `json:"hide_settings,omitempty"`

	// Env is the base environment of the main process and of every exec, NAME=value. PATH and HOME have defaults.
	Env []string `json:"env,omitempty"`
	// Secrets are more of Env, NAME=value, that is on no disk: Start passes it to the shim in memory. HasSecrets says that there is some; set
	// by Start.
	Secrets    []string `json:"-"`
	HasSecrets bool     `json:"has_secrets,omitempty"`
	// WorkDir is the default working directory; "" is "/".
	WorkDir string `json:"work_dir,omitempty"`
	// Main is the main process; looked up in Env's PATH. None: the sandbox idles until stopped.
	Main []string `json:"main,omitempty"`
	// Prepared starts the sandbox without a main process, which Client.Begin then gives it together with environment, working
	// directory and files; Main is not set then.
	Prepared bool `json:"prepared,omitempty"`
	// Files are put in place by the init, so within the sandbox's own root, before the main process starts.
	Files []File `json:"files,omitempty"`

	// StopGrace, OutputLimit, Linger and StartTimeout have the defaults above when 0.
	StopGrace    time.Duration `json:"stop_grace_ns,omitempty"`
	OutputLimit  int64         `json:"output_limit,omitempty"`
	Linger       time.Duration `json:"linger_ns,omitempty"`
	StartTimeout time.Duration `json:"start_timeout_ns,omitempty"`
}

// File is a file of the host to copy into the sandbox before the main process starts. Missing parents are made.
type File struct {
	// Path is absolute, inside.
	Path string `json:"path"`
	// Source is the host's file. A relative one is in the state directory.
	Source string `json:"source"`
	// Mode is the permission, 0 is 0644.
	Mode uint32 `json:"mode,omitempty"`
}

// InitArgs returns process.args for the bundle's config.json: binary is the path of berm-shim inside the sandbox, openFiles how many
// descriptors each process of it may have, 0 for as many as the machine allows.
func InitArgs(binary string, openFiles uint64) []string {
	return []string{binary, "init", "--fd", "3", "--open-files", strconv.FormatUint(openFiles, 10)}
}

// InitDialArgs is InitArgs for a kind whose init dials: socket is the path of Config.Meet inside the sandbox.
func InitDialArgs(binary, socket string) []string { return []string{binary, "init", "--dial", socket} }

// check says what is wrong with a configuration.
func (c *Config) check() error {
	if c.ID == "" || strings.Trim(c.ID, idBytes) != "" {
		return fmt.Errorf("id %q: want letters, digits, _ + - and . only", c.ID)
	}
	for _, p := range []struct{ name, path string }{
		{"state directory", c.Dir}, {"runtime", c.Runtime}, {"runtime root", c.RuntimeRoot}, {"bundle", c.Bundle},
	} {
		if !filepath.IsAbs(p.path) || strings.ContainsRune(p.path, 0) {
			return fmt.Errorf("%s %q: want an absolute path", p.name, p.path)
		}
	}
	if c.RuntimeKind.Dials() != filepath.IsAbs(c.Meet) {
		return fmt.Errorf("socket to meet the init at %q: want an absolute path for a runtime of kind %s, and none for others", c.Meet, oci.Runsc)
	}
	if c.IDs != nil && (c.IDs.First <= 0 || c.IDs.Count <= 0 || c.RuntimeKind.Dials()) {
		return fmt.Errorf("%d ids from %d on: want ids that are not root's, and none for a runtime of kind %s", c.IDs.Count, c.IDs.First, oci.Runsc)
	}
	if c.Network != "" && !filepath.IsAbs(c.Network) {
		return fmt.Errorf("network namespace %q: want an absolute path", c.Network)
	}
	if c.Restore != "" && (!filepath.IsAbs(c.Restore) || !c.RuntimeKind.Checkpoints()) {
		return fmt.Errorf("restore from %q: want an absolute path, and a runtime that can", c.Restore)
	}
	if len(c.Main) > 0 && c.Main[0] == "" {
		return fmt.Errorf("main command is an empty string")
	}
	if c.Prepared && len(c.Main)+len(c.Files) > 0 {
		return fmt.Errorf("a prepared sandbox has no main command and no files yet")
	}
	if c.StopGrace < 0 || c.OutputLimit < 0 || c.Linger < 0 || c.StartTimeout < 0 {
		return fmt.Errorf("a negative limit")
	}
	if err := c.Cgroup.Check(); err != nil {
		return err
	}
	if err := checkEnv(slices.Concat(c.Env, c.Secrets)); err != nil {
		return err
	}
	return checkStrings(slices.Concat(c.Main, c.Env, c.Secrets, c.RuntimeFlags, []string{c.WorkDir}))
}

const idBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-."

// Defaults returns a copy in which every 0 is replaced by its default.
func (c *Config) Defaults() *Config {
	full := *c
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&full.StopGrace, DefaultStopGrace}, {&full.Linger, DefaultLinger}, {&full.StartTimeout, DefaultStartTimeout},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if full.OutputLimit == 0 {
		full.OutputLimit = DefaultOutputLimit
	}
	return &full
}

// errTorn says that config.json is not whole: the machine went down before the disk had it, and the sandbox with the machine.
var errTorn = errors.New("not whole: the machine went down while it was written")

// LoadConfig reads and checks the configuration in dir.
func LoadConfig(dir string) (*Config, error) {
	data, err := readLimited(filepath.Join(dir, configName), MaxConfig)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, configName), errTorn)
	}
	c := &Config{Dir: dir}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, configName), err)
	}
	if c.Version != ConfigVersion {
		return nil, fmt.Errorf("%s: version %d, this shim knows %d", filepath.Join(dir, configName), c.Version, ConfigVersion)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, configName), err)
	}
	return c, nil
}

// readLimited reads a whole file that may have at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d make sense", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
