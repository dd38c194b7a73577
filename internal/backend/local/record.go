package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// recordVersion is the version of work.json, stop.json and end.json that this build writes and reads.
const recordVersion = 1

// Names of the records.
const (
	workName = "work.json"
	stopName = "stop.json"
	endName  = "end.json"
)

// workRecord is work.json: everything that a start needs, so that another server can do it.
type workRecord struct {
	Version    int       `json:"version"`
	AcceptedAt time.Time `json:"accepted_at"`
	// Boot is the boot of the machine in which it was accepted. Whether it ran, the shim's records say, and they are not flushed: after
	// another boot it may have run, whatever is left of them.
	Boot string `json:"boot"`
	// Range is the sandbox's range of ids.
	Range int `json:"range"`

	SandboxID   string `json:"sandbox_id"`
	OrgID       string `json:"org_id,omitempty"`
	UserID      string `json:"user_id,omitempty"`
	RunnerID    string `json:"runner_id,omitempty"`
	ProfileName string `json:"profile_name,omitempty"`
	ZoneName    string `json:"zone_name,omitempty"`
	Digest      string `json:"digest,omitempty"`
	// Spec and Launch are canonical protobuf JSON. Contents of mounted files are not in Launch but in files/N.
	Spec   json.RawMessage `json:"spec"`
	Launch json.RawMessage `json:"launch"`

	// Warm says whether it got a prepared sandbox; nil when there are none on this runner. Begin is what that was given, nil when it
	// is not one.
	Warm  *core.WarmVerdict `json:"warm,omitempty"`
	Begin *shim.Begin       `json:"begin,omitempty"`
}

// stopRecord is stop.json.
type stopRecord struct {
	Version int       `json:"version"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

// endRecord is end.json: an end that no shim recorded, because none was in charge any more or yet.
type endRecord struct {
	Version int       `json:"version"`
	Failed  bool      `json:"failed"`
	Reason  string    `json:"reason"`
	Message string    `json:"message,omitempty"`
	At      time.Time `json:"at"`
	// StartedAt is zero when it never ran.
	StartedAt time.Time `json:"started_at,omitzero"`
}

// newWorkRecord converts a work that is accepted now, in the boot that is named.
func newWorkRecord(w *backend.Work, ids int, now time.Time, boot string) (*workRecord, error) {
	launch := withoutContents(w.Launch)
	spec, err := protojson.Marshal(w.Spec)
	if err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	data, err := protojson.Marshal(launch)
	if err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	return &workRecord{
		Version: recordVersion, AcceptedAt: now, Boot: boot, Range: ids,
		SandboxID: w.SandboxID, OrgID: w.OrgID, UserID: w.UserID, RunnerID: w.RunnerID, ProfileName: w.ProfileName, ZoneName: w.ZoneName,
		Digest: w.Digest, Spec: spec, Launch: data,
	}, nil
}

// withoutContents is a copy of a launch in which mounted files have paths alone.
func withoutContents(l *specpb.Launch) *specpb.Launch {
	// A shallow copy by hand would break with the next field; the contents are large, so they are taken out before cloning.
	files := l.GetMountedFiles()
	if len(files) == 0 {
		return l
	}
	bare := make([]*specpb.MountedFile, len(files))
	for i, f := range files {
		bare[i] = &specpb.MountedFile{Path: f.GetPath()}
	}
	out := &specpb.Launch{}
	r, o := l.ProtoReflect(), out.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); r.Has(fd) && fd.Name() != "mounted_files" {
			o.Set(fd, r.Get(fd))
		}
	}
	out.MountedFiles = bare
	return out
}

// work converts a record back.
func (r *workRecord) work() (*backend.Work, error) {
	w := &backend.Work{
		SandboxID: r.SandboxID, OrgID: r.OrgID, UserID: r.UserID, RunnerID: r.RunnerID, ProfileName: r.ProfileName, ZoneName: r.ZoneName,
		Digest: r.Digest, Spec: &specpb.ProfileSpec{}, Launch: &specpb.Launch{},
	}
	// Fields that an older or newer server wrote and this one does not know were acted on by nobody here.
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true}
	if err := lenient.Unmarshal(r.Spec, w.Spec); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if err := lenient.Unmarshal(r.Launch, w.Launch); err != nil {
		return nil, fmt.Errorf("launch: %w", err)
	}
	return w, nil
}

// writeContents puts the contents of mounted files on disk, for the sandbox to read and nobody to change.
func writeContents(dir string, files []*specpb.MountedFile) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i, f := range files {
		if err := writeSynced(filepath.Join(dir, strconv.Itoa(i)), f.GetContent(), 0o444); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// writeRecord puts v on disk: once it has returned, the record is there, after a crash of the machine too. Before, there is
// none, or one without an end, which counts as none. The file gets its name before it is flushed, so that the journal of
// the file system commits once and not twice: a launch waits for this.
func writeRecord(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "."+name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(data, recordEnd)); err != nil {
		return err
	}
	failpoint.Hit(failRecordWritten)
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	failpoint.Hit(failRecordRenamed)
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(dir)
}

// recordEnd is the last byte of a whole record.
const recordEnd = '\n'

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readRecord reads a record; ok is false when there is none, or one that was being written when the machine went down.
func readRecord(dir, name string, v any) (ok bool, err error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size() > maxWorkBytes {
		return false, fmt.Errorf("%s has %d bytes, at most %d make sense", path, info.Size(), maxWorkBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if len(data) == 0 || data[len(data)-1] != recordEnd {
		return false, nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}
