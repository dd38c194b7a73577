package image

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// tempPrefix marks layers that are being unpacked.
	tempPrefix = "tmp-"
	// MaxWindow is the most memory that a zstd stream may ask for, in bytes.
	MaxWindow = 128 << 20
)

// Store keeps unpacked layers by the digest of their archive. A layer is there completely or not at all. It is safe for
// concurrent use; layers are never changed.
type Store struct {
	dir, sizes string

	mu sync.Mutex
	// busy has a channel for each layer that is being unpacked, closed at the end.
	busy map[string]chan struct{}
	ids  userNamespaces
}

// OpenStore opens the store in dir, making it if need be, and removes what an interrupted unpacking left. One process at a
// time may have a store open.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: filepath.Join(dir, "sha256"), sizes: filepath.Join(dir, sizesName), busy: map[string]chan struct{}{}}
	for _, d := range []string{s.dir, s.sizes} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Close releases handles.
func (s *Store) Close() { s.ids.close() }

// Unpacked says what Unpack did.
type Unpacked struct {
	// Bytes and Entries were unpacked now; both are 0 when every layer was there.
	Bytes   int64 `json:"bytes"`
	Entries int   `json:"entries"`
}

// Unpack makes every layer of img present. Concurrent calls share the work on a layer. An error is a fault with
// IMAGE_INVALID when the layer is at fault.
func (s *Store) Unpack(ctx context.Context, img *Image) (Unpacked, error) {
	var total Unpacked
	for i := range img.Layers {
		done, err := s.UnpackLayer(ctx, img, i, MaxImageBytes-total.Bytes)
		if err != nil {
			return total, err
		}
		total.Bytes += done.Bytes
		total.Entries += done.Entries
	}
	return total, nil
}

// UnpackLayer makes the layer with number i present, of at most budget bytes of content. Errors are those of Unpack.
func (s *Store) UnpackLayer(ctx context.Context, img *Image, i int, budget int64) (Unpacked, error) {
	done, err := s.layer(ctx, img.layout, img.Layers[i], budget)
	return done, img.blame(i, err)
}

// ProveLayer unpacks the layer with number i for nothing: of one whose archive is here from elsewhere it tells whether the blob, which
// whoever made the image claims to hold it, does.
func (s *Store) ProveLayer(ctx context.Context, img *Image, i int, budget int64) error {
	temp, _, err := s.extract(ctx, img.layout, img.Layers[i], budget)
	if err == nil {
		err = os.RemoveAll(temp)
	}
	return img.blame(i, err)
}

// blame says which layer an error is of.
func (img *Image) blame(i int, err error) error {
	l := img.Layers[i]
	var bad *archiveError
	switch {
	case errors.As(err, &bad):
		return invalid("image %s: layer %d of %d (%s): %v", img.Ref, i+1, len(img.Layers), l.Digest, err).
			WithHint("nothing of this layer was kept")
	case err != nil:
		return fmt.Errorf("image %s: layer %s: %w", img.Ref, l.Digest, err)
	}
	return nil
}

// path returns where a layer is, once it is there.
func (s *Store) path(l Layer) string { return filepath.Join(s.dir, l.DiffID.Hex) }

// layer makes one layer present, once however many ask.
func (s *Store) layer(ctx context.Context, layout string, l Layer, budget int64) (Unpacked, error) {
	if _, err := BlobPath(layout, l.DiffID); err != nil {
		return Unpacked{}, &archiveError{err}
	}
	for {
		if _, err := os.Lstat(s.path(l)); err == nil {
			return Unpacked{}, nil
		}
		s.mu.Lock()
		wait, busy := s.busy[l.DiffID.Hex]
		if !busy {
			wait = make(chan struct{})
			s.busy[l.DiffID.Hex] = wait
		}
		s.mu.Unlock()
		if !busy {
			defer func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.busy, l.DiffID.Hex)
				close(wait)
			}()
			return s.unpack(ctx, layout, l, budget)
		}
		// The other one may fail for reasons of its own (its context); then this one tries.
		select {
		case <-wait:
		case <-ctx.Done():
			return Unpacked{}, ctx.Err()
		}
	}
}

// unpack unpacks one layer into a temporary directory and renames it when all of it is on disk and both digests match.
func (s *Store) unpack(ctx context.Context, layout string, l Layer, budget int64) (done Unpacked, err error) {
	if _, err := os.Lstat(s.path(l)); err == nil {
		return Unpacked{}, nil
	}
	temp, done, err := s.extract(ctx, layout, l, budget)
	if err != nil {
		return done, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	failpoint.Hit(failLayerUnpacked)
	if err := syncFS(temp); err != nil {
		return done, err
	}
	if err := os.Rename(temp, s.path(l)); err != nil {
		return done, err
	}
	s.noteSize(l.DiffID, done)
	failpoint.Hit(failLayerRenamed)
	return done, syncFS(s.dir)
}

// extract unpacks one layer into a temporary directory. After an error there is none.
func (s *Store) extract(ctx context.Context, layout string, l Layer, budget int64) (temp string, done Unpacked, err error) {
	if temp, err = os.MkdirTemp(s.dir, tempPrefix); err != nil {
		return "", done, err
	}
	if err = os.Chmod(temp, 0o755); err == nil {
		done, err = extractBlob(ctx, layout, l, temp, budget)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(temp))
	}
	return temp, done, err
}

// extractBlob reads a blob to its end and checks what was read.
func extractBlob(ctx context.Context, layout string, l Layer, dir string, budget int64) (Unpacked, error) {
	path, err := BlobPath(layout, l.Digest)
	if err != nil {
		return Unpacked{}, &archiveError{err}
	}
	if l.Size < 0 || l.Size > MaxBlobBytes {
		return Unpacked{}, bad("the blob has %d bytes, at most %d are taken", l.Size, int64(MaxBlobBytes))
	}
	f, size, err := openRegular(path)
	if err != nil {
		return Unpacked{}, &archiveError{err}
	}
	defer f.Close()
	if size != l.Size {
		return Unpacked{}, bad("the blob has %d bytes, the manifest says %d", size, l.Size)
	}
	blob := &digester{r: io.LimitReader(f, l.Size), h: sha256.New(), ctx: ctx}
	plain, closeFn, err := decompress(blob, l.MediaType)
	if err != nil {
		return Unpacked{}, err
	}
	defer closeFn()
	limited := &bombGuard{r: plain, in: blob, left: budget + MaxEntries*tarOverhead}
	diff := &digester{r: limited, h: sha256.New(), ctx: ctx}
	u, err := newUnpacker(dir, budget)
	if err != nil {
		return Unpacked{}, err
	}
	defer u.close()
	if err := u.run(diff); err != nil {
		return Unpacked{}, err
	}
	// What follows the archive's end counts for the digests too.
	if _, err := io.Copy(io.Discard, diff); err != nil {
		return Unpacked{}, readError(err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return Unpacked{}, readError(err)
	}
	if got := hex.EncodeToString(blob.h.Sum(nil)); got != l.Digest.Hex {
		return Unpacked{}, bad("the blob's content has digest sha256:%s", got)
	}
	if got := hex.EncodeToString(diff.h.Sum(nil)); got != l.DiffID.Hex {
		return Unpacked{}, bad("the archive has digest sha256:%s, the configuration says %s", got, l.DiffID)
	}
	return Unpacked{Bytes: u.bytes, Entries: u.entries}, nil
}

// decompress chooses by the first bytes, as every tool does: media types are often wrong about compression.
func decompress(r io.Reader, mt types.MediaType) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, readError(err)
	}
	switch {
	case !mt.IsLayer():
		return nil, nil, bad("media type %q is no layer", mt)
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, readError(err)
		}
		return z, func() { _ = z.Close() }, nil
	case len(head) == 4 && string(head) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxWindow))
		if err != nil {
			return nil, nil, readError(err)
		}
		return z, z.Close, nil
	default:
		return br, func() {}, nil
	}
}

// digester hashes and counts what is read through it, and ends with its context.
type digester struct {
	r   io.Reader
	h   hash.Hash
	n   int64
	ctx context.Context //nolint:containedctx // it lives for one unpacking
}

func (d *digester) Read(p []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := d.r.Read(p)
	d.h.Write(p[:n])
	d.n += int64(n)
	return n, err
}

// tarOverhead is what an entry may take in the archive besides its content, in bytes: header, padding, long names.
const tarOverhead = 16 << 10

// bombGuard bounds what comes out of a decompressor, as a whole and against what went in.
type bombGuard struct {
	r    io.Reader
	in   *digester
	out  int64
	left int64
}

func (g *bombGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.out += int64(n)
	g.left -= int64(n)
	if g.left < 0 {
		return n, bad("it unpacks to more than %d bytes", int64(MaxImageBytes))
	}
	if g.out > RatioFrom && g.out/MaxRatio > g.in.n {
		return n, bad("%d compressed bytes unpacked to more than %d: more than %d to one is taken for a bomb", g.in.n, g.out, MaxRatio)
	}
	return n, err
}

// archiveError is an error that the archive is to blame for.
type archiveError struct{ err error }

func (e *archiveError) Error() string { return e.err.Error() }
func (e *archiveError) Unwrap() error { return e.err }

func bad(format string, args ...any) *archiveError { return &archiveError{fmt.Errorf(format, args...)} }

// readError blames the archive for what its bytes caused, and nobody for the caller's end.
func readError(err error) error {
	var already *archiveError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &already) {
		return err
	}
	return &archiveError{err}
}

// syncFS puts everything of a file system on disk. A layer has thousands of files; one call is far quicker than one each.
func syncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: path, Err: err}
	}
	return nil
}
