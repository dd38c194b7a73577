package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/shim/wire"
)

// FileInfo describes a file at the moment it was opened.
type FileInfo = wire.FileInfo

// FileState is how far writing a file came.
type FileState = wire.FileState

// Upload is what WriteFrom writes.
type Upload struct {
	// Name is what the file is called in a directory that is there.
	Name string
	// Mode and ModTime are what the file gets. A zero ModTime is now.
	Mode    uint32
	ModTime time.Time
	// Size is what the whole file has, Offset what is there of it; Prefix is the SHA-256 digest of that.
	Size, Offset int64
	Prefix       []byte
}

// ArchivePart is what ReadArchive packs. The zero value is all.
type ArchivePart struct {
	// Bare leaves out the content of files, Skip the files of these names.
	Bare bool
	Skip []string
	// Begun are files of which the caller has the beginning; those that still begin so come without it.
	Begun []archive.Begun
}

// WriteOptions refines WriteFile.
type WriteOptions struct {
	// Mode is the permission of a new file, 0 is 0644; an existing file keeps its own.
	Mode uint32
	// Limit is the most bytes to write; 0 is no limit but the sandbox's own.
	Limit int64
}

// ReadFile opens a regular file of the sandbox. The reader yields at most limit bytes; a file that is larger is refused
// with CWSANDBOX_FILE_TOO_LARGE, at the start or, when it grew meanwhile, at the limit. limit 0 means no limit. Closing
// early is fine.
func (c *Client) ReadFile(ctx context.Context, path string, limit int64) (io.ReadCloser, FileInfo, error) {
	return c.read(ctx, wire.Request{Op: wire.OpReadFile, Path: path, Limit: limit})
}

// ReadArchive packs a directory or a file of the sandbox (package archive). The reader fails if anything could not be packed
// whole.
func (c *Client) ReadArchive(ctx context.Context, path string, part ArchivePart) (io.ReadCloser, error) {
	r, _, err := c.read(ctx, wire.Request{Op: wire.OpReadArchive, Path: path, Bare: part.Bare, Skip: part.Skip, Begun: part.Begun})
	return r, err
}

// ReadFrom opens a regular file of the sandbox at an offset, the content before which has the SHA-256 digest prefix. The reader
// yields what the file had when it was opened, and fails when that is not there any more. A file that begins otherwise, or is
// shorter: Conflict, FILE_CHANGED.
func (c *Client) ReadFrom(ctx context.Context, path string, offset int64, prefix []byte) (io.ReadCloser, FileInfo, error) {
	return c.read(ctx, wire.Request{Op: wire.OpReadFrom, Path: path, Offset: offset, Prefix: prefix})
}

// FileState tells how far WriteFrom of a path came.
func (c *Client) FileState(ctx context.Context, path, name string) (FileState, error) {
	var state FileState
	err := c.call(ctx, wire.Request{Op: wire.OpFileState, Path: path, Name: name}, &state)
	return state, err
}

// WriteFrom writes what r holds behind what an earlier WriteFrom left, or a file from its beginning on. It takes its place when
// all is there; until then what was there stays. When r fails or the caller goes away, what came stays to be gone on with. A
// beginning that is not what Upload says: Conflict, FILE_CHANGED; one that somebody else writes: Conflict, FILE_BUSY. An error
// of r is returned as it is.
func (c *Client) WriteFrom(ctx context.Context, path string, u Upload, r io.Reader) error {
	return c.write(ctx, wire.Request{
		Op: wire.OpWriteFrom, Path: path, Name: u.Name, Mode: u.Mode, ModTime: u.ModTime, Size: u.Size, Offset: u.Offset, Prefix: u.Prefix,
	}, r)
}

func (c *Client) read(ctx context.Context, req wire.Request) (io.ReadCloser, FileInfo, error) {
	conn, err := c.open(ctx, req)
	if err != nil {
		return nil, FileInfo{}, err
	}
	var info FileInfo
	f, err := conn.expect(wire.TypeOK)
	if err == nil {
		err = f.Decode(&info)
	}
	if err != nil {
		conn.abandon()
		return nil, FileInfo{}, err
	}
	return &fileReader{conn: conn}, info, nil
}

type fileReader struct {
	conn *conn
	rest []byte
	err  error
}

// Read returns io.EOF only after the sandbox said that the file is complete.
func (r *fileReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo spares the copy into the caller's buffer.
func (r *fileReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := w.Write(r.rest)
		total += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
		if r.err == nil {
			r.fill()
		}
		if len(r.rest) == 0 && r.err != nil {
			if errors.Is(r.err, io.EOF) {
				return total, nil
			}
			return total, r.err
		}
	}
}

func (r *fileReader) fill() {
	f, err := r.conn.frames.Read()
	switch {
	case err != nil:
		r.err = r.conn.fail(err)
	case f.Type == wire.TypeData:
		r.rest = f.Payload
	case f.Type == wire.TypeEnd:
		r.err = io.EOF
	case f.Type == wire.TypeError:
		r.err = errorFrame(f)
	default:
		r.err = errInterrupted(fmt.Errorf("%w: type %d in a file", wire.ErrMalformed, f.Type))
	}
}

func (r *fileReader) Close() error { return r.conn.Close() }

// WriteFile creates or replaces a file of the sandbox with all of r, making missing parents, or leaves what was there.
// An error of r is returned as it is.
func (c *Client) WriteFile(ctx context.Context, path string, o WriteOptions, r io.Reader) error {
	return c.write(ctx, wire.Request{Op: wire.OpWriteFile, Path: path, Mode: o.Mode, Limit: o.Limit}, r)
}

// WriteArchive unpacks what r holds (package archive): below path under name where path is a directory, else as path. What is
// missing above it is made. Each file is written whole or not at all. An error of r is returned as it is.
func (c *Client) WriteArchive(ctx context.Context, path, name string, r io.Reader) error {
	return c.write(ctx, wire.Request{Op: wire.OpWriteArchive, Path: path, Name: name}, r)
}

func (c *Client) write(ctx context.Context, req wire.Request, r io.Reader) error {
	conn, err := c.open(ctx, req)
	if err != nil {
		return err
	}
	defer conn.abandon()
	if _, err := conn.expect(wire.TypeOK); err != nil {
		return err
	}
	// The sandbox may refuse in the middle (disk full) and then reads no more: somebody has to listen while we write.
	var answer error
	var wg sync.WaitGroup
	answered := make(chan struct{})
	wg.Go(func() {
		_, answer = conn.expect(wire.TypeOK)
		close(answered)
		_ = conn.SetWriteDeadline(time.Unix(1, 0)) // A write may be stuck for ever: nobody reads it now.
	})
	source, sent := sendFile(conn, r, answered)
	if source != nil {
		conn.Conn.Close() // Without the end mark the init discards what it has.
		wg.Wait()
		return source
	}
	wg.Wait()
	if answer != nil {
		return answer
	}
	if sent != nil {
		return conn.fail(sent)
	}
	return nil
}

// sendFile sends r and the end mark, unless the answer comes first. source is an error of r, sent one of the connection.
func sendFile(conn *conn, r io.Reader, answered <-chan struct{}) (source, sent error) {
	buf := make([]byte, wire.HeaderSize+wire.MaxData)
	for {
		n, err := readFull(r, buf[wire.HeaderSize:])
		select {
		case <-answered:
			return nil, nil
		default:
		}
		if n > 0 {
			wire.PutHeader(buf, wire.TypeData, n)
			if _, err := conn.Write(buf[:wire.HeaderSize+n]); err != nil {
				return nil, err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil, wire.Write(conn, wire.TypeEnd, nil)
		default:
			return err, nil
		}
	}
}

// readFull fills p unless r ends. Unlike io.ReadFull it keeps r's own error: a source that broke off with
// io.ErrUnexpectedEOF must not be taken for one that ended.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
