package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) imagePullCmd() *cobra.Command {
	var runner string
	var pin bool
	c := runnerFlag(s.outputFlag(&cobra.Command{
		Use: "pull IMAGE…", Short: "Pull images onto a runner before anybody waits for them", Args: args(1, -1, "at least one image"),
		Long: "Pull images from their registries, through the runner's mirrors and with its credentials. A tag that moved is followed; what is there already is\nnot downloaded again.",
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			id, err := theRunner(ctx, c, runner)
			if err != nil {
				return err
			}
			var got []*bermv1.Image
			for _, image := range a {
				img, err := s.pullOne(ctx, c, &bermv1.PullImageRequest{Runner: id, Image: image, Pin: pin})
				if err != nil {
					return err
				}
				got = append(got, img)
			}
			if s.output == "table" {
				for _, img := range got {
					fmt.Fprintln(s.Out, img.GetDigest())
				}
				return nil
			}
			return s.emitImages(got)
		}),
	}), &runner)
	c.Flags().BoolVar(&pin, "pin", false, "never remove it to save space")
	return c
}

// pullOne pulls one image and shows how far it is: on one line of a terminal, else a line for each layer that is done.
func (s *session) pullOne(ctx context.Context, c *client.Client, req *bermv1.PullImageRequest) (*bermv1.Image, error) {
	stream, err := c.Images().PullImage(ctx, req)
	if err != nil {
		return nil, err
	}
	show := &pullProgress{out: s.Err, tty: terminalOut(s.Err), image: req.GetImage(), done: -1}
	defer show.end()
	var img *bermv1.Image
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && img != nil:
			return img, nil
		case errors.Is(err, io.EOF):
			return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the pull ended without a result")
		case err != nil:
			return nil, client.FromRPC(err)
		}
		if p := m.GetProgress(); p != nil {
			show.update(p)
		}
		if img = m.GetImage(); img != nil {
			show.end()
			what := "pulled, " + bytesText(img.GetDownloadedBytes()) + " downloaded"
			if img.GetDownloadedBytes() == 0 {
				what = "up to date"
			}
			fmt.Fprintf(s.Err, "%s: %s from %s, %s, %d layers\n", clean(req.GetImage()), what, clean(img.GetSource()), bytesText(img.GetSizeBytes()), img.GetLayers())
		}
	}
}

// terminalOut reports whether what is written there is seen on a terminal.
func terminalOut(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}

// pullProgress shows progress.
type pullProgress struct {
	out   io.Writer
	tty   bool
	image string
	done  int32
	dirty bool
}

func (p *pullProgress) update(m *bermv1.ImageProgress) {
	if m.GetLayers() == 0 || (!p.tty && m.GetLayersDone() == p.done) {
		return
	}
	p.done = m.GetLayersDone()
	line := fmt.Sprintf("%s: %s of %s from %s, %d of %d layers unpacked", clean(p.image), bytesText(m.GetBytes()), bytesText(m.GetTotalBytes()),
		clean(m.GetSource()), m.GetLayersDone(), m.GetLayers())
	if p.tty {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		p.dirty = true
		return
	}
	fmt.Fprintln(p.out, line)
}

// end leaves the line free for what follows.
func (p *pullProgress) end() {
	if p.dirty {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.dirty = false
	}
}

// importChunk is how much of an archive is sent in one message, in bytes.
const importChunk = 1 << 20

func (s *session) imageImportCmd() *cobra.Command {
	var runner string
	var pin bool
	c := runnerFlag(s.outputFlag(&cobra.Command{
		Use: "import FILE|DIR|- [NAME]", Short: "Give a runner the images of an archive or an OCI layout, without a registry", Args: args(1, 2, "an archive, and a name if it has none"),
		Long: "Import images from what docker save, podman save, skopeo or crane write: a docker archive or an OCI layout, as a tar (compressed or not, - reads it from\nstandard input) or as a directory. NAME is what its only image is called; without one the archive says.",
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			id, err := theRunner(ctx, c, runner)
			if err != nil {
				return err
			}
			archive, err := s.openArchive(a[0])
			if err != nil {
				return err
			}
			defer func() { _ = archive.Close() }() // it was read
			start := &bermv1.ImportImageStart{Runner: id, Pin: pin}
			if len(a) > 1 {
				start.Name = a[1]
			}
			resp, err := sendArchive(ctx, c, start, archive)
			if err != nil {
				return err
			}
			return s.emitImages(resp.GetImages())
		}),
	}), &runner)
	c.Flags().BoolVar(&pin, "pin", false, "never remove it to save space")
	return c
}

// sendArchive streams an archive. What the server says counts before what reading or sending says.
func sendArchive(ctx context.Context, c *client.Client, start *bermv1.ImportImageStart, archive io.Reader) (*bermv1.ImportImageResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Images().ImportImage(ctx)
	if err != nil {
		return nil, err
	}
	send := func(m *bermv1.ImportImageRequest) error { return stream.Send(m) }
	err = send(&bermv1.ImportImageRequest{Part: &bermv1.ImportImageRequest_Start{Start: start}})
	for err == nil {
		buf := make([]byte, importChunk)
		n, readErr := io.ReadFull(archive, buf)
		if n > 0 {
			err = send(&bermv1.ImportImageRequest{Part: &bermv1.ImportImageRequest_Data{Data: buf[:n]}})
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return nil, fault.Invalidf("FILE_UNREADABLE", "cannot read the archive: %v", bare(readErr))
		}
	}
	return closeImport(stream)
}

func closeImport(stream grpc.ClientStreamingClient[bermv1.ImportImageRequest, bermv1.ImportImageResponse]) (*bermv1.ImportImageResponse, error) {
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, client.FromRPC(err)
	}
	return resp, nil
}

// openArchive opens an archive; a directory is read as one.
func (s *session) openArchive(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(s.In), nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	if !info.IsDir() {
		f, err := os.Open(name)
		if err != nil {
			return nil, unreadable(name, err)
		}
		return f, nil
	}
	if _, err := os.Stat(filepath.Join(name, "index.json")); err != nil {
		return nil, fault.Invalidf("FILE_UNREADABLE", "%s is a directory and no OCI layout: it has no index.json", name)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(tarDir(w, name)) }()
	return r, nil
}

// tarDir writes the regular files of a directory as an archive.
func tarDir(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
			return err
		}
		_, err = io.CopyN(t, f, info.Size())
		return err
	})
	if err != nil {
		return err
	}
	return t.Close()
}
