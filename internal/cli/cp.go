package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
)

// The fields of FileService's messages that have content: of both requests, and of ReadFile's and ReadArchive's responses.
const (
	uploadData  = 2
	fileData    = 2
	archiveData = 1
)

type copyFlags struct {
	setuid, links, quiet, resume bool
}

func (s *session) cpCmd() *cobra.Command {
	var flags copyFlags
	c := &cobra.Command{
		Use:   "cp [flags] SOURCE DESTINATION",
		Short: "Copy files and directories into or out of a sandbox",
		Long: `Copy a file or a directory. One of the two is SANDBOX:PATH with an absolute path, the other a local path; - is standard input or
output. What is copied goes into the destination where that is a directory, and becomes the destination where it is not;
SOURCE/. copies what is in a directory.

Modes and times are kept, set-user-id bits only with --setuid. Symbolic links are copied as links and never followed; out of a
sandbox, those that lead out of what is copied are left out unless --links is given. Pipes, sockets and devices are left out. Each file
is replaced whole or not at all. The sandbox needs neither tar nor a shell.

A copy whose connection breaks goes on by itself where it was, when the server can be reached again soon. What is there of one that was
interrupted otherwise is gone on with by --resume, if it still is the beginning of the source.`,
		Args: args(2, 2, "a source and a destination"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			fromBox, from := splitRemote(a[0])
			toBox, to := splitRemote(a[1])
			switch {
			case (fromBox == "") == (toBox == ""):
				return fault.Invalidf("USAGE", "exactly one of source and destination must be SANDBOX:PATH")
			case toBox != "":
				return s.copyIn(ctx, c, from, toBox, to, flags)
			default:
				return s.copyOut(ctx, c, fromBox, from, to, flags)
			}
		}),
	}
	f := c.Flags()
	f.BoolVar(&flags.setuid, "setuid", false, "keep set-user-id and set-group-id bits")
	f.BoolVar(&flags.links, "links", false, "copy links that lead out of what is copied, out of a sandbox too")
	f.BoolVar(&flags.resume, "resume", false, "go on with an earlier copy that was interrupted; what is there already is not copied again")
	f.BoolVarP(&flags.quiet, "quiet", "q", false, "show no progress and no summary")
	return c
}

// splitRemote tells SANDBOX:/path from a local name, which may hold a colon behind a slash.
func splitRemote(arg string) (sandbox, name string) {
	head, tail, ok := strings.Cut(arg, ":")
	if !ok || head == "" || strings.ContainsAny(head, "/.") || !strings.HasPrefix(tail, "/") {
		return "", arg
	}
	return head, tail
}

func (s *session) copyIn(ctx context.Context, c *client.Client, local, id, to string, flags copyFlags) error {
	if local == "-" {
		return s.streamIn(ctx, c, s.In, id, to)
	}
	info, err := os.Stat(local)
	if err != nil {
		return unreadable(local, err)
	}
	if m := info.Mode(); !m.IsDir() && !m.IsRegular() { // <(command), say: content without an end that is known
		f, err := os.Open(local)
		if err != nil {
			return unreadable(local, err)
		}
		defer f.Close()
		return s.streamIn(ctx, c, f, id, to)
	}
	dir, name, as, err := localSource(local, info.IsDir())
	if err != nil {
		return unreadable(local, err)
	}
	defer func() { _ = dir.Close() }()
	if !info.IsDir() {
		return s.fileIn(ctx, c, dir, name, &upload{id: id, to: to, as: as, local: local}, flags)
	}
	return s.treeIn(ctx, c, &treeUpload{id: id, to: to, as: as, local: local, dir: dir, flags: flags})
}

// streamIn writes content whose end is where it ends.
func (s *session) streamIn(ctx context.Context, c *client.Client, from io.Reader, id, to string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Files().WriteFile(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: to}}}); err != nil {
		return answerOf(stream, err)
	}
	for {
		piece := payload.New(uploadData)
		n, rerr := from.Read(piece.Data)
		if piece.Data = piece.Data[:n]; n > 0 {
			if err := stream.SendMsg(piece); err != nil {
				return answerOf(stream, err)
			}
		}
		if errors.Is(rerr, io.EOF) {
			_, err := stream.CloseAndRecv()
			return client.FromRPC(err)
		}
		if rerr != nil {
			return unreadable("the input", rerr)
		}
	}
}

// answerOf returns why the server ended a stream that could not be written to.
func answerOf[Q, A any](stream grpc.ClientStreamingClient[Q, A], err error) error {
	if errors.Is(err, io.EOF) {
		_, err = stream.CloseAndRecv()
	}
	return client.FromRPC(err)
}

// localSource opens the directory that what is to be copied is in: its name there, and the one that it gets.
func localSource(local string, isDir bool) (dir *os.Root, name, as string, err error) {
	real, err := filepath.EvalSymlinks(local)
	if err != nil {
		return nil, "", "", err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, "", "", err
	}
	if isDir {
		if !strings.HasSuffix(local, "/.") && local != "." {
			if given, err := filepath.Abs(local); err == nil && filepath.Base(given) != "/" {
				as = filepath.Base(given)
			}
		}
		dir, err = os.OpenRoot(real)
		return dir, ".", as, err
	}
	dir, err = os.OpenRoot(filepath.Dir(real))
	return dir, filepath.Base(real), filepath.Base(local), err
}

func (s *session) copyOut(ctx context.Context, c *client.Client, id, from, local string, flags copyFlags) error {
	if wantsFile(from, local) {
		if err := s.fileOut(ctx, c, &download{id: id, from: from, local: local}, flags); !fault.HasReason(err, fault.ReasonFileIsDirectory) {
			return err
		}
	}
	if was, err := os.Stat(local); local != "-" && (err != nil || was.IsDir()) {
		return s.treeOut(ctx, c, &treeDownload{id: id, from: from, local: local}, flags)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Files().ReadArchive(ctx, &bermv1.ReadArchiveRequest{SandboxId: id, Path: from})
	if err != nil {
		return err
	}
	in := receive(stream)
	defer in.Close()
	if local == "-" {
		return copyError(from, archive.Content(in, s.Out))
	}
	p := s.progressOf(flags, "copied to "+local)
	return p.end(copyError(local, unpackLocal(in, from, local, archive.Options{
		KeepSetuid: flags.setuid, KeepLinks: flags.links, Left: p.left, Progress: p.progress,
	})))
}

// unpackLocal makes what the archive of from holds at a local path. A link keeps leading to its file, a file that was there keeps
// its mode, and what is no file, such as /dev/null or a pipe, is written to and stays what it is.
func unpackLocal(in io.Reader, from, local string, o archive.Options) error {
	was, err := os.Stat(local)
	there := err == nil && !was.IsDir()
	if there && !was.Mode().IsRegular() {
		f, err := os.OpenFile(local, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(archive.Content(in, f), f.Close())
	}
	if there {
		if local, err = filepath.EvalSymlinks(local); err != nil {
			return err
		}
	}
	dir, name, err := localPlace(from, local)
	if err != nil {
		return unwritable(local, err)
	}
	defer func() { _ = dir.Close() }()
	if err := archive.Unpack(in, dir, name, o); err != nil {
		return err
	}
	if there {
		if err := dir.Chmod(name, was.Mode().Perm()); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, in) // Whether it is whole is known at the end of the stream alone.
	return err
}

// localPlace opens the directory that a copy goes to, and returns the name that it gets there.
func localPlace(from, local string) (dir *os.Root, name string, err error) {
	name = path.Base(from)
	if strings.HasSuffix(from, "/.") || name == "/" {
		name = "."
	}
	info, err := os.Stat(local)
	if err == nil && info.IsDir() {
		dir, err = os.OpenRoot(local)
		return dir, name, err
	}
	if err == nil && strings.HasSuffix(local, "/") {
		return nil, "", errors.New("it is not a directory")
	}
	local = filepath.Clean(local)
	dir, err = os.OpenRoot(filepath.Dir(local))
	return dir, filepath.Base(local), err
}

// copyError keeps the faults of the server, and says of the rest which side it is about.
func copyError(local string, err error) error {
	var p *os.PathError
	var f *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return err
	case errors.Is(err, archive.ErrUnsafe):
		return fault.New(fault.Internal, "ARCHIVE_UNSAFE", "what the sandbox sent is refused: %v", err)
	case errors.As(err, &p) && p.Op == "read":
		return fault.Invalidf("FILE_UNREADABLE", "cannot read %s: %v", filepath.Join(local, p.Path), p.Err)
	case errors.As(err, &p):
		return fault.Invalidf("FILE_UNWRITABLE", "cannot write %s: %v", filepath.Join(local, p.Path), p.Err)
	}
	return client.FromRPC(err)
}

// received reads the archive that a stream brings.
type received struct {
	*payload.Received
	stream grpc.ClientStream
}

func receive(stream grpc.ClientStream) *received {
	return &received{Received: payload.Receive(archiveData, func() proto.Message { return &bermv1.ReadArchiveResponse{} }), stream: stream}
}

// Read implements io.Reader.
func (r *received) Read(p []byte) (int, error) {
	for r.Remaining() == 0 {
		if err := r.stream.RecvMsg(r.Received); err != nil {
			return 0, client.FromRPC(err)
		}
		if m, ok := r.Other.(*bermv1.ReadArchiveResponse); ok {
			r.Accept(m.GetData())
		}
	}
	return r.Received.Read(p)
}

// sending writes an archive to a stream.
type sending struct {
	stream grpc.ClientStream
	piece  *payload.Piece
	used   int
}

// Write implements io.Writer.
func (s *sending) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if s.piece == nil {
			s.piece, s.used = payload.New(uploadData), 0
		}
		n := copy(s.piece.Data[s.used:], rest)
		s.used, rest = s.used+n, rest[n:]
		if s.used == len(s.piece.Data) {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush sends what is not sent yet.
func (s *sending) flush() error {
	if s.piece == nil {
		return nil
	}
	piece := s.piece
	s.piece = nil
	piece.Data = piece.Data[:s.used]
	return s.stream.SendMsg(piece)
}

// copyProgress shows how far a copy is, on a terminal, and what was left out.
type copyProgress struct {
	s       *session
	what    string
	live    bool
	quiet   bool
	entries int
	bytes   int64
	// before is how much was there from an earlier attempt.
	before int64
	pace   pace
}

func (s *session) progressOf(flags copyFlags, what string) *copyProgress {
	f, ok := s.Err.(*os.File)
	return &copyProgress{s: s, what: what, quiet: flags.quiet, live: ok && isTerminal(f) && !flags.quiet, pace: newPace()}
}

func (p *copyProgress) progress(entries int, bytes int64) {
	p.entries, p.bytes = entries, p.bytes+bytes
	if p.live && p.pace.due() {
		fmt.Fprintf(p.s.Err, "\r\x1b[K%s", p)
	}
}

func (p *copyProgress) left(name, why string) {
	p.clear()
	fmt.Fprintf(p.s.Err, "left out %s: %s\n", clean(name), clean(why))
}

// begin begins an attempt to copy a file, of which a part is there.
func (p *copyProgress) begin(before int64) { p.entries, p.bytes, p.before = 1, 0, before }

// say tells what happens meanwhile.
func (p *copyProgress) say(format string, args ...any) {
	if p.quiet {
		return
	}
	p.clear()
	fmt.Fprintf(p.s.Err, "%s\n", clean(fmt.Sprintf(format, args...)))
}

func (p *copyProgress) clear() {
	if p.live {
		fmt.Fprint(p.s.Err, "\r\x1b[K")
	}
}

// end shows the summary, unless something went wrong.
func (p *copyProgress) end(err error) error {
	p.clear()
	if err == nil && !p.quiet {
		fmt.Fprintf(p.s.Err, "%s %s\n", p, p.what)
	}
	return err
}

// String tells how much was copied, and on a terminal how fast.
func (p *copyProgress) String() string {
	text := fmt.Sprintf("%d entries, %s", p.entries, byteText(p.before+p.bytes))
	if p.entries == 1 {
		text = byteText(p.before + p.bytes)
	}
	if p.before > 0 {
		text += fmt.Sprintf(", %s of it from before", byteText(p.before))
	}
	if rate := p.pace.rate(p.bytes); p.live && rate > 0 {
		text += fmt.Sprintf(" (%s/s)", byteText(rate))
	}
	return text
}
