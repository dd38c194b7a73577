package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
)

// upload is a file on its way into a sandbox.
type upload struct {
	id, to, as, local string
	file              *os.File
	info              fs.FileInfo
	mode              uint32
	progress          *copyProgress
	// moved is how much was sent, in all attempts.
	moved int64
}

// fileIn copies one file in, with as many attempts as its connection needs.
func (s *session) fileIn(ctx context.Context, c *client.Client, dir *os.Root, name string, u *upload, flags copyFlags) error {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return unreadable(u.local, err)
	}
	defer f.Close()
	if u.info, err = f.Stat(); err != nil {
		return unreadable(u.local, err)
	}
	if !u.info.Mode().IsRegular() {
		return unreadable(u.local, errors.New("it is no file any more"))
	}
	u.file, u.mode = f, wireMode(u.info.Mode(), flags.setuid)
	u.progress = s.progressOf(flags, "copied to "+u.id+":"+u.to)
	err = s.again(ctx, c, u.progress, func() int64 { return u.moved }, func(c *client.Client, n int) error {
		return u.attempt(ctx, c, n > 0 || flags.resume)
	})
	if err != nil && u.moved > 0 {
		err = resumeHint(err)
	}
	return u.progress.end(err)
}

// wireMode returns the bits of a mode as Unix has them.
func wireMode(m fs.FileMode, setuid bool) uint32 {
	if !setuid {
		m &^= fs.ModeSetuid | fs.ModeSetgid
	}
	return archive.Bits(m)
}

// attempt copies what is missing; with resume it looks for what is there.
func (u *upload) attempt(ctx context.Context, c *client.Client, resume bool) error {
	var offset int64
	var prefix []byte
	if resume {
		state, err := c.Files().GetFileState(ctx, &bermv1.GetFileStateRequest{SandboxId: u.id, Path: u.to, Name: u.as})
		if err != nil {
			return err
		}
		if u.complete(state.GetFile()) {
			u.progress.begin(u.info.Size())
			return nil
		}
		if state.GetBusy() {
			return fault.New(fault.Conflict, fault.ReasonFileBusy, "another copy to %s:%s is under way", u.id, u.to).
				WithHint("Without --resume this one begins anew, and the last to end counts.")
		}
		if offset = state.GetPartialSize(); offset > u.info.Size() {
			u.progress.say("there is more of it than %s has now; copying it from its beginning", u.local)
			offset = 0
		}
		if prefix, err = digestOf(ctx, u.file, offset); err != nil {
			return unreadable(u.local, err)
		}
	}
	err := u.send(ctx, c, offset, prefix)
	if offset > 0 && fault.HasReason(err, fault.ReasonFileChanged) {
		u.progress.say("what is there is not the beginning of %s; copying it from its beginning", u.local)
		err = u.send(ctx, c, 0, nil)
	}
	return err
}

// complete reports whether a file is what would be copied.
func (u *upload) complete(is *bermv1.FileInfo) bool {
	return is != nil && is.GetSize() == u.info.Size() && is.GetMode() == u.mode && is.GetModifiedAt().AsTime().Equal(u.info.ModTime())
}

// send sends the file from an offset on, as long as it was when it was opened.
func (u *upload) send(ctx context.Context, c *client.Client, offset int64, prefix []byte) error {
	u.progress.begin(offset)
	ctx, cancel := context.WithCancel(ctx) // Without the end of our side, the server takes no file for whole.
	defer cancel()
	stream, err := c.Files().WriteFile(ctx)
	if err != nil {
		return err
	}
	init := &bermv1.WriteFileInit{SandboxId: u.id, Path: u.to, Mode: u.mode, Resumable: &bermv1.ResumableWrite{
		Name: u.as, Size: u.info.Size(), Offset: offset, PrefixSha256: prefix, ModifiedAt: timestamppb.New(u.info.ModTime()),
	}}
	if err := stream.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: init}}); err != nil {
		return answerOf(stream, err)
	}
	for at := offset; at < u.info.Size(); {
		piece := payload.New(uploadData)
		n, err := u.file.ReadAt(piece.Data[:min(int64(len(piece.Data)), u.info.Size()-at)], at)
		if n > 0 {
			piece.Data = piece.Data[:n]
			if err := stream.SendMsg(piece); err != nil {
				return answerOf(stream, err)
			}
			at += int64(n)
			u.moved += int64(n)
			u.progress.progress(1, int64(n))
		}
		if errors.Is(err, io.EOF) && at < u.info.Size() {
			err = archive.ErrChanged
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return unreadable(u.local, err)
		}
	}
	_, err = stream.CloseAndRecv()
	return client.FromRPC(err)
}
