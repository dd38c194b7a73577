package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
)

// download is a file on its way out of a sandbox.
type download struct {
	id, from, local string
	flags           copyFlags
	// was is the file that is replaced, nil for none.
	was      fs.FileInfo
	part     *localPart
	progress *copyProgress
	// moved is how much came, in all attempts.
	moved int64
}

// wantsFile reports whether what is copied may be a file that becomes one here: not content for a stream, or of a directory.
func wantsFile(from, local string) bool {
	if local == "-" || strings.HasSuffix(from, "/.") || strings.HasSuffix(from, "/") {
		return false
	}
	was, err := os.Stat(local)
	return err != nil || was.IsDir() || was.Mode().IsRegular()
}

// fileOut copies one file out, with as many attempts as its connection needs.
func (s *session) fileOut(ctx context.Context, c *client.Client, d *download, flags copyFlags) error {
	d.flags = flags
	d.progress = s.progressOf(flags, "copied to "+d.local)
	local := d.local
	if was, err := os.Stat(local); err == nil && !was.IsDir() {
		d.was = was
		if local, err = filepath.EvalSymlinks(local); err != nil {
			return unwritable(d.local, err)
		}
	}
	dir, name, err := localPlace(d.from, local)
	if err != nil {
		return unwritable(d.local, err)
	}
	defer func() { _ = dir.Close() }()
	d.part = &localPart{dir: dir, name: name}
	err = s.again(ctx, c, d.progress, func() int64 { return d.moved }, func(c *client.Client, n int) error {
		return d.attempt(ctx, c, n > 0 || flags.resume)
	})
	keep := ctx.Err() != nil || fault.Is(err, fault.Unavailable)
	if d.part.close(keep) && err != nil {
		err = resumeHint(err)
	}
	if fault.HasReason(err, fault.ReasonFileIsDirectory) {
		return err
	}
	return d.progress.end(err)
}

// attempt copies what is missing; with resume it goes on with what is there.
func (d *download) attempt(ctx context.Context, c *client.Client, resume bool) error {
	var offset int64
	var prefix []byte
	if resume {
		if err := d.part.open(true); err != nil {
			return d.unwritable(err)
		}
		var err error
		if offset, err = d.part.size(); err != nil {
			return d.unwritable(err)
		}
		if prefix, err = digestOf(ctx, d.part.file, offset); err != nil {
			return d.unwritable(err)
		}
	}
	err := d.receive(ctx, c, offset, prefix)
	if offset > 0 && fault.HasReason(err, fault.ReasonFileChanged) {
		d.progress.say("%s:%s has changed since, or what is here of it; copying it from its beginning", d.id, d.from)
		err = d.receive(ctx, c, 0, nil)
	}
	return err
}

// unwritable keeps what is a fault already.
func (d *download) unwritable(err error) error {
	var f *fault.Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	return unwritable(d.local, err)
}

// receive takes the file from an offset on, and puts it in place when it is whole.
func (d *download) receive(ctx context.Context, c *client.Client, offset int64, prefix []byte) error {
	d.progress.begin(offset)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Files().ReadFile(ctx, &bermv1.ReadFileRequest{SandboxId: d.id, Path: d.from, Offset: offset, PrefixSha256: prefix})
	if err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return endedEarly(err)
	}
	info := m.GetInfo()
	if d.flags.resume && offset == 0 && d.complete(info) {
		d.progress.begin(info.GetSize())
		return nil
	}
	if err := d.part.open(offset > 0); err != nil { // Only now: nothing is made for what does not exist.
		return d.unwritable(err)
	}
	if err := d.part.cut(offset); err != nil {
		return d.unwritable(err)
	}
	at, err := d.content(stream, offset)
	if err != nil {
		return err
	}
	if at != info.GetSize() {
		return fault.New(fault.Internal, "STREAM_ENDED", "%d bytes of %s:%s came of the %d that were announced", at, d.id, d.from, info.GetSize())
	}
	return d.unwritableOrNil(d.part.finish(d.mode(info), info.GetModifiedAt().AsTime()))
}

// content writes what comes from an offset on, and returns the offset behind it.
func (d *download) content(stream grpc.ClientStream, at int64) (int64, error) {
	in := payload.Receive(fileData, func() proto.Message { return &bermv1.ReadFileResponse{} })
	defer in.Close()
	var slices [][]byte
	for {
		err := stream.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, client.FromRPC(err)
		}
		if m, ok := in.Other.(*bermv1.ReadFileResponse); ok {
			in.Accept(m.GetData())
		}
		slices = in.Slices(slices[:0])
		n, err := writeAllAt(d.part.file, slices, at)
		at += n
		d.moved += n
		d.progress.progress(1, n)
		if err != nil {
			return at, d.unwritable(err)
		}
	}
}

func (d *download) unwritableOrNil(err error) error {
	if err == nil {
		return nil
	}
	return d.unwritable(err)
}

// endedEarly makes an error of an end that comes before anything else.
func endedEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Internal, "STREAM_ENDED", "the stream ended before it began")
	}
	return client.FromRPC(err)
}

// mode is what the file gets: a file that was there keeps its own.
func (d *download) mode(info *bermv1.FileInfo) fs.FileMode {
	if d.was != nil {
		return d.was.Mode().Perm()
	}
	mode := archive.Mode(info.GetMode())
	if !d.flags.setuid {
		mode &^= fs.ModeSetuid | fs.ModeSetgid
	}
	return mode
}

// complete reports whether the file that is there is what would be copied.
func (d *download) complete(info *bermv1.FileInfo) bool {
	is, err := d.part.dir.Lstat(d.part.name)
	return err == nil && is.Mode() == d.mode(info) && is.Size() == info.GetSize() && is.ModTime().Equal(info.GetModifiedAt().AsTime())
}
