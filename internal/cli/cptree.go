package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// treeUpload is a directory on its way into a sandbox. An attempt that goes on leaves out the files that are there already, and of a
// large one that is there in part what is there.
type treeUpload struct {
	id, to, as, local string
	dir               *os.Root
	flags             copyFlags
	progress          *copyProgress
	// parent and name are where it goes, whatever an earlier attempt made; known once the first attempt has looked.
	parent, name string
	moved        int64
}

// treeIn copies a directory in, with as many attempts as its connection needs.
func (s *session) treeIn(ctx context.Context, c *client.Client, u *treeUpload) error {
	u.progress = s.progressOf(u.flags, "copied to "+u.id+":"+u.to)
	if err := u.place(ctx, c); err != nil {
		return err
	}
	err := s.again(ctx, c, u.progress, func() int64 { return u.moved }, func(c *client.Client, n int) error {
		return u.attempt(ctx, c, n > 0 || u.flags.resume)
	})
	if err != nil && u.moved > 0 {
		err = resumeHint(err)
	}
	return u.progress.end(copyError(u.local, err))
}

// place finds out where the directory goes. Later that could not be told from what an earlier attempt made.
func (u *treeUpload) place(ctx context.Context, c *client.Client) error {
	is, err := remoteKind(ctx, c, u.id, u.to)
	if err != nil {
		return err
	}
	clean := path.Clean(u.to)
	if !is.IsDir() && clean != "/" && !strings.HasSuffix(u.to, "/") {
		u.parent, u.name = strings.TrimSuffix(path.Dir(clean), "/")+"/", path.Base(clean)
		return nil
	}
	u.parent, u.name = u.to, u.as
	if !u.flags.resume || u.as == "" {
		return nil
	}
	if is, err = remoteKind(ctx, c, u.id, path.Join(u.to, u.as)); err == nil && !is.IsDir() {
		err = nothingToResume(u.id+":"+path.Join(u.to, u.as), u.id+":"+u.to, u.local)
	}
	return err
}

// nothingToResume refuses to guess whether a directory is what an interrupted copy made, or what it was to go into.
func nothingToResume(want, at, from string) error {
	return fault.Preconditionf("NOTHING_TO_RESUME", "there is no directory %s to go on with", want).
		WithHint("Leave --resume out to begin. If the interrupted copy made %s itself, copy %s/. to go on with it.", at, strings.TrimSuffix(from, "/"))
}

// remoteKind returns what is at a path, 0 for nothing that is a file or a directory, as for a file.
func remoteKind(ctx context.Context, c *client.Client, id, p string) (fs.FileMode, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Files().ReadArchive(ctx, &bermv1.ReadArchiveRequest{SandboxId: id, Path: p, Bare: true})
	if err == nil {
		in := receive(stream)
		defer in.Close()
		var first archive.Entry
		first, err = archive.First(in)
		if err == nil {
			return first.Mode, nil
		}
	}
	if fault.Is(err, fault.NotFound) && fault.HasReason(err, fault.ReasonFileNotFound) || fault.HasReason(err, fault.ReasonFileIOFailed) {
		return 0, nil // What stands in the way is told when it is written.
	}
	return 0, client.FromRPC(err)
}

// remoteList returns what is below a directory of a sandbox, nothing where there is none.
func remoteList(ctx context.Context, c *client.Client, id, p string) (map[string]archive.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Files().ReadArchive(ctx, &bermv1.ReadArchiveRequest{SandboxId: id, Path: p, Bare: true})
	if err != nil {
		return nil, err
	}
	in := receive(stream)
	defer in.Close()
	list, err := archive.List(in)
	if fault.Is(err, fault.NotFound) && fault.HasReason(err, fault.ReasonFileNotFound) {
		return nil, nil
	}
	return list, err
}

func (u *treeUpload) attempt(ctx context.Context, c *client.Client, resume bool) error {
	o := archive.Options{KeepSetuid: u.flags.setuid, KeepLinks: true, Left: u.progress.left, Progress: func(entries int, n int64) {
		u.moved += n
		u.progress.progress(entries, n)
	}}
	if !resume {
		u.progress.begin(0)
		return u.send(ctx, c, o)
	}
	err := u.goOn(ctx, c, o, true)
	if fault.HasReason(err, fault.ReasonFileChanged) {
		u.progress.say("%s; copying it from its beginning", fault.From(err).Message)
		err = u.goOn(ctx, c, o, false)
	}
	return err
}

// goOn sends what is missing in the sandbox. Without parts, files that are there in part are sent as a whole.
func (u *treeUpload) goOn(ctx context.Context, c *client.Client, o archive.Options, parts bool) error {
	u.progress.begin(0)
	there, err := remoteList(ctx, c, u.id, path.Join(u.parent, u.name))
	if err != nil {
		return err
	}
	o.Skip = func(name string, info fs.FileInfo) bool {
		e, ok := there[name]
		if ok = ok && e.Same(info, o); ok {
			u.progress.before += info.Size()
		}
		return ok
	}
	if parts {
		o.From = u.from(ctx, begunThere(there))
	}
	return u.send(ctx, c, o)
}

// send packs the directory into a stream.
func (u *treeUpload) send(ctx context.Context, c *client.Client, o archive.Options) error {
	ctx, cancel := context.WithCancel(ctx) // Without the end of our side, the server takes no archive for whole.
	defer cancel()
	stream, err := c.Files().WriteArchive(ctx)
	if err != nil {
		return err
	}
	init := &bermv1.WriteArchiveInit{SandboxId: u.id, Path: u.parent, Name: u.name}
	if err := stream.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: init}}); err != nil {
		return answerOf(stream, err)
	}
	w := &sending{stream: stream}
	err = archive.Pack(w, u.dir, ".", o)
	if err == nil {
		err = w.flush()
	}
	if errors.Is(err, io.EOF) { // The server ended it, and says why.
		return answerOf(stream, err)
	}
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	return client.FromRPC(err)
}

// treeDownload is a directory, or what is no file for fileOut, on its way out of a sandbox.
type treeDownload struct {
	id, from, local string
	dir             *os.Root
	name            string
	options         archive.Options
	progress        *copyProgress
	here            begunHere
	moved           int64
}

// treeOut copies a directory out, with as many attempts as its connection needs.
func (s *session) treeOut(ctx context.Context, c *client.Client, d *treeDownload, flags copyFlags) error {
	dir, name, err := localPlace(d.from, d.local)
	if err != nil {
		return unwritable(d.local, err)
	}
	defer func() { _ = dir.Close() }()
	if was, err := dir.Lstat(name); flags.resume && (err != nil || !was.IsDir()) {
		if into, err := os.Stat(d.local); err == nil && into.IsDir() {
			return nothingToResume(name, d.local, d.id+":"+d.from)
		}
	}
	d.dir, d.name, d.progress = dir, name, s.progressOf(flags, "copied to "+d.local)
	d.options = archive.Options{KeepSetuid: flags.setuid, KeepLinks: flags.links, Sweep: true, Large: d.take, Left: d.progress.left, Progress: func(entries int, n int64) {
		d.moved += n
		d.progress.progress(entries, n)
	}}
	err = s.again(ctx, c, d.progress, func() int64 { return d.moved }, func(c *client.Client, n int) error {
		return d.attempt(ctx, c, n > 0 || flags.resume)
	})
	if err != nil && d.moved > 0 {
		err = resumeHint(err)
	}
	return d.progress.end(copyError(d.local, err))
}

func (d *treeDownload) attempt(ctx context.Context, c *client.Client, resume bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.progress.begin(0)
	req := &bermv1.ReadArchiveRequest{SandboxId: d.id, Path: d.from}
	if resume {
		list, err := remoteList(ctx, c, d.id, d.from)
		if err != nil {
			return err
		}
		req.Skip = d.complete(list)
		defer d.here.close()
		if req.Begun, err = d.begun(ctx, list, req.Skip); err != nil {
			return err
		}
	}
	stream, err := c.Files().ReadArchive(ctx, req)
	if err != nil {
		return err
	}
	in := receive(stream)
	defer in.Close()
	if err := archive.Unpack(in, d.dir, d.name, d.options); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // Whether it is whole is known at the end of the stream alone.
	return err
}

// begun says which files are here in part.
func (d *treeDownload) begun(ctx context.Context, list map[string]archive.Entry, complete []string) (out []*bermv1.BegunFile, err error) {
	top, err := archive.OpenDir(d.dir, d.name)
	if err != nil {
		return nil, nil // nothing is here yet, or what is will be told when it is written
	}
	defer func() { _ = top.Close() }()
	found, err := d.here.find(ctx, top, list, complete)
	for _, b := range found {
		out = append(out, &bermv1.BegunFile{Name: b.Name, Offset: b.Offset, PrefixSha256: b.Prefix})
	}
	return out, err
}

// complete returns the names of files that are here as they are there: the largest first, as many as can be said.
func (d *treeDownload) complete(list map[string]archive.Entry) []string {
	var names []string
	for name, e := range list {
		at := name
		if d.name != "." {
			at = d.name + "/" + name
		}
		if info, err := d.dir.Lstat(at); err == nil && e.Same(info, d.options) && utf8.ValidString(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(list[b].Size, list[a].Size) })
	size := 0
	for i, name := range names {
		if size += backend.SkipSize(name); size > backend.MaxSkip {
			return names[:i]
		}
		d.progress.before += list[name].Size
	}
	return names
}
