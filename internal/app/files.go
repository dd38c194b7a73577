package app

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxSecret is the longest admin token, in bytes; the file may have been written by a person.
const maxSecret = 512

// readSecret returns the admin token kept in the data directory, "" when there is none.
func readSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.Invalidf("DATA_DIR", "cannot read %s: %v", path, err)
	}
	if len(raw) > maxSecret {
		return "", fault.Invalidf("DATA_DIR", "%s is no token", path).WithHint("Remove it: the server writes a new one.")
	}
	return strings.TrimSpace(string(raw)), nil
}

// randomBytes fills b. It never fails.
func randomBytes(b []byte) { _, _ = rand.Read(b) }

// placePattern is what a place's id looks like.
var placePattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

// placeID returns the id kept in a file, and makes one where there is no file.
func placeID(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(raw))
		if !placePattern.MatchString(id) {
			return "", fault.Invalidf("DATA_DIR", "%s holds no id of 16 hexadecimal digits", path).
				WithHint("Restore it: without it the runners of this data directory, and what runs on them, are not its own any more.")
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Invalidf("DATA_DIR", "cannot read %s: %v", path, err)
	}
	random := make([]byte, 8)
	randomBytes(random)
	id := hex.EncodeToString(random)
	if err := writeFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fault.Internalf(err, "write the id of the data directory")
	}
	return id, nil
}

// writeFile writes beside and renames, so that a reader sees the old text or the new one.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	if err := os.Chmod(tmp, mode); err != nil { // the file may have existed with another one
		return err
	}
	return os.Rename(tmp, path)
}

// announce tells the command line of the same user that this server runs, and a person how to reach it.
func (a *app) announce() error {
	r := config.Running{PID: os.Getpid(), URL: a.listeners.url(), TokenFile: filepath.Join(a.cfg.DataDir, tokenFile)}
	if a.cfg.TLSCert != "" {
		var err error
		if r.CAFile, err = filepath.Abs(a.cfg.TLSCert); err != nil { // who reads it is elsewhere
			return fault.Internalf(err, "say that the server runs")
		}
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fault.Internalf(err, "say that the server runs")
	}
	if a.cfg.RunningDir != "" {
		if err := os.MkdirAll(a.cfg.RunningDir, 0o700); err != nil {
			return fault.Internalf(err, "say that the server runs")
		}
		path := filepath.Join(a.cfg.RunningDir, strconv.Itoa(r.PID)+".json")
		if a.runningLock, err = config.WriteRunning(path, raw); err != nil {
			return fault.Internalf(err, "say that the server runs")
		}
		a.running = path
	}
	debug.FreeOSMemory() // What a start leaves behind, probes and recovery above all, is of no use while a server waits.
	a.log.Info("serving", "url", r.URL, "data", a.cfg.DataDir, "version", a.cfg.Version)
	return nil
}
