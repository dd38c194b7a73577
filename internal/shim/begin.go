package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/wire"
)

// A sandbox can be started without its main process (Config.Prepared): all that takes time is done, and nothing of a caller is in
// it. Client.Begin then makes it somebody's, once: begin.json says for whom and what to run, the record leaves PhasePrepared, and
// only then the main process is started. So a record that says PhasePrepared means that no main process ever was, whoever was
// killed in between.

// MaxHostname is the longest host name that the kernel takes, in bytes.
const MaxHostname = 64

const beginName = "begin.json"

// Failpoints of Begin, in the server.
const (
	failBeginWritten = "shim-begin.written"
	failBegun        = "shim-begin.begun"
)

// Begin is what a prepared sandbox is given. It is written once, as begin.json, and never changes.
type Begin struct {
	// Version is set by Client.Begin.
	Version int `json:"version"`
	// Hostname replaces the one that the bundle gave; "" keeps it.
	Hostname string `json:"hostname,omitempty"`
	// Env, WorkDir, Main and Files are as in Config.
	Env     []string `json:"env,omitempty"`
	WorkDir string   `json:"work_dir,omitempty"`
	Main    []string `json:"main,omitempty"`
	Files   []File   `json:"files,omitempty"`
	// Secrets are more of Env that is on no disk: they come with the request.
	Secrets []string `json:"-"`
	// Binds are mounted before the main process starts.
	Binds []Bind `json:"binds,omitempty"`
}

// Bind is a file of the host to mount in a prepared sandbox, read-only.
type Bind struct {
	// Source is on the host, Target inside, both absolute.
	Source string `json:"source"`
	Target string `json:"target"`
	// Owner is who the file to be covered, and missing directories above it, belong to: the sandbox's root, as an id of the host.
	Owner int `json:"owner"`
}

// CanBind says why files cannot be mounted in prepared sandboxes on this machine, "" when they can.
func CanBind() string {
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); errors.Is(err, unix.ENOSYS) {
		return "the kernel has no mount_setattr: it came with Linux 5.12"
	}
	return ""
}

func (b *Begin) check() error {
	if len(b.Hostname) > MaxHostname {
		return fmt.Errorf("a host name of %d bytes, at most %d are possible", len(b.Hostname), MaxHostname)
	}
	if len(b.Main) > 0 && b.Main[0] == "" {
		return errors.New("main command is an empty string")
	}
	for _, f := range b.Binds {
		if !filepath.IsAbs(f.Source) || !filepath.IsAbs(f.Target) || f.Target == "/" || strings.ContainsRune(f.Target, 0) || f.Owner <= 0 {
			return fmt.Errorf("mount of %q at %q for %d: want absolute paths, and an owner that is not the host's root", f.Source, f.Target, f.Owner)
		}
	}
	if err := checkEnv(slices.Concat(b.Env, b.Secrets)); err != nil {
		return err
	}
	return checkStrings(slices.Concat(b.Main, b.Env, b.Secrets, []string{b.WorkDir, b.Hostname}))
}

// Begin gives a prepared sandbox its main process, and returns once that runs. It happens once, however often it is asked for:
// a second call gets the outcome of the first. When the main process cannot start, the error says why as that of Start does, and
// exit.json has the same. A sandbox that ended before: Precondition, CWSANDBOX_SANDBOX_NOT_RUNNING.
func (c *Client) Begin(ctx context.Context, b Begin) error {
	b.Version = ConfigVersion
	if err := b.check(); err != nil {
		return fault.Invalidf(fault.ReasonInvalidRequest, "what a prepared sandbox is to run: %v", err)
	}
	if err := c.writeBegin(b); err != nil {
		return unstarted(err)
	}
	failpoint.Hit(failBeginWritten)
	err := c.call(ctx, wire.Request{Op: wire.OpBegin, Env: b.Secrets}, nil)
	failpoint.Hit(failBegun)
	return err
}

// writeBegin writes begin.json, unless it is there.
func (c *Client) writeBegin(b Begin) error {
	c.beginning.Lock()
	defer c.beginning.Unlock()
	_, err := os.Lstat(filepath.Join(c.dir, beginName))
	if errors.Is(err, fs.ErrNotExist) {
		return replace(c.dir, beginName, b)
	}
	return err
}

// LoadBegin reads begin.json.
func LoadBegin(dir string) (*Begin, error) {
	path := filepath.Join(dir, beginName)
	data, err := readLimited(path, MaxConfig)
	if err != nil {
		return nil, err
	}
	b := &Begin{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if b.Version != ConfigVersion {
		return nil, fmt.Errorf("%s: version %d, this shim knows %d", path, b.Version, ConfigVersion)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
