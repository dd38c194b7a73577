package backend

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/bermhq/berm/internal/archive"
)

// Transfers move single files so that what broke off can be gone on with. Their errors are those of ReadFile and WriteFile, and of
// a file that is not what the caller takes it for: Conflict, FILE_CHANGED.
type Transfers interface {
	// ReadFileFrom opens a regular file at an offset, the content before which has the SHA-256 digest prefix (none at offset 0).
	// The reader yields what the file had when it was opened, and fails when that is not there any more.
	ReadFileFrom(ctx context.Context, id, path string, offset int64, prefix []byte) (io.ReadCloser, FileInfo, error)
	// WriteFileFrom writes what r holds behind what an earlier one left, or a file from its beginning on. The file takes its place
	// when all is there; until then what was there stays. When r fails or ctx ends, what came stays for a while, beside the file
	// and under a name of its own. At an offset while another one is under way: Conflict, FILE_BUSY.
	WriteFileFrom(ctx context.Context, id, path string, u Upload, r io.Reader) error
	// FileState tells how far writing a file came. name is that of the Upload.
	FileState(ctx context.Context, id, path, name string) (FileState, error)
}

// MaxSkip is how many bytes the names that an ArchivePart leaves out may have together, by SkipSize.
const MaxSkip = 512 << 10

// ArchivePart is what ReadArchive packs of a directory. The zero value is all.
type ArchivePart struct {
	// Bare packs files without their content (archive.Size says how much they have).
	Bare bool
	// Skip names files that are not packed, as they would be named in the archive.
	Skip []string
	// Begun are files of which the caller has the beginning, at most archive.MaxBegun. Those of at least archive.MinPart bytes that still
	// begin so come without it, and say so; the others come whole.
	Begun []archive.Begun
}

// SkipSize is what a name counts: about what it has as JSON.
func SkipSize(name string) int {
	text, _ := json.Marshal(name) //nolint:errchkjson // a string
	return len(text) + 1
}

// FileInfo is what a file is, without its content.
type FileInfo struct {
	Size    int64
	Mode    uint32
	ModTime time.Time
}

// Upload is what WriteFileFrom writes.
type Upload struct {
	// Name is what the file is called where the path is a directory.
	Name string
	// Mode and ModTime are what the file gets. A zero ModTime is now.
	Mode    uint32
	ModTime time.Time
	// Size is what the whole file has; anything else is refused. Offset is what is there of it, Prefix the SHA-256 digest of that.
	Size, Offset int64
	Prefix       []byte
}

// FileState is how far writing a file came.
type FileState struct {
	// File is the regular file that is there, nil for none.
	File *FileInfo
	// Partial is how many bytes are there of one that broke off.
	Partial int64
	// Busy: one is under way.
	Busy bool
}
