package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/failpoint"
)

// Download writes a layer's blob to the file at path and verifies it. What an earlier attempt left there is gone on with, when
// the registry can, and is part of what is verified. report is called with the bytes that are there so far. After an error
// the file may have a part of the blob; after one with IMAGE_INVALID it is gone. One download at a time may write to a path.
func (s *Session) Download(ctx context.Context, d v1.Descriptor, path string, report func(int64)) error {
	if err := s.budget.enter(ctx); err != nil {
		return err
	}
	defer s.budget.leave()
	p, err := openPart(path, d)
	if err != nil {
		return err
	}
	defer p.file.Close()
	p.report = report
	resumed := p.n > 0
	err = s.fill(ctx, p)
	if err == nil && !p.whole() && resumed {
		// What was there before may have been of a machine that went down. Once more, from the start.
		if err = p.restart(); err == nil {
			err = s.fill(ctx, p)
		}
	}
	if err == nil && !p.whole() {
		err = lie("its content has digest %s", p.digest())
	}
	var lied *lieError
	if errors.As(err, &lied) {
		os.Remove(path)
	}
	if err != nil {
		return s.failed(ctx, "layer "+d.Digest.String(), err)
	}
	failpoint.Hit(failBlobWhole)
	return nil
}

// fill downloads until all bytes are there. An attempt gains something when it gets further than all before it, by more than
// a registry that stalls gets.
func (s *Session) fill(ctx context.Context, p *part) error {
	best := p.n
	return s.client.again(ctx, s.budget, func() (bool, error) {
		if p.n == p.size {
			return false, nil
		}
		err := s.fetch(ctx, p)
		gained := p.n >= best+s.client.cfg.Limits.StallBytes
		best = max(best, p.n)
		return gained, err
	})
}

// fetch makes one request for what is missing.
func (s *Session) fetch(ctx context.Context, p *part) error {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, forLayer{}, true))
	defer cancel(nil)
	req, err := s.request(ctx, http.MethodGet, Blobs, p.want.String())
	if err != nil {
		return err
	}
	if p.n > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.n, p.size-1))
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := p.begin(resp); err != nil {
		return err
	}
	dog := newWatchdog(s.client.cfg.Limits.Stall, s.client.cfg.Limits.StallBytes, func() { cancel(errStalled) })
	defer dog.stop()
	err = s.read(ctx, resp.Body, p, dog)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// read copies a body to the file.
func (s *Session) read(ctx context.Context, body io.Reader, p *part, dog *watchdog) error {
	buf := make([]byte, chunk)
	for {
		n, err := body.Read(buf)
		if int64(n) > p.size-p.n {
			return lie("it goes on after the %d bytes that the manifest says", p.size)
		}
		if n > 0 {
			dog.feed(int64(n))
			if err := p.write(buf[:n]); err != nil {
				return &diskError{err}
			}
			failpoint.Hit(failPartWritten)
			dog.pause()
			err := s.budget.pay(ctx, n)
			dog.resume()
			if err != nil {
				return err
			}
		}
		switch {
		case p.n == p.size && (err == nil || errors.Is(err, io.EOF)):
			return nil // What may follow is not read.
		case errors.Is(err, io.EOF):
			return fmt.Errorf("it ended after %d of %d bytes: %w", p.n, p.size, io.ErrUnexpectedEOF)
		case err != nil:
			return &cutError{p.n, p.size, err}
		}
	}
}

// part is a blob that is being written.
type part struct {
	file   *os.File
	hash   hash.Hash
	want   v1.Hash
	n      int64
	size   int64
	report func(int64)
}

// openPart opens the file and hashes what is in it.
func openPart(path string, d v1.Descriptor) (*part, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &part{file: f, hash: sha256.New(), want: d.Digest, size: d.Size}
	if p.n, err = io.Copy(p.hash, io.LimitReader(f, d.Size+1)); err == nil && p.n > d.Size {
		err = p.restart()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

// begin looks at the head of an answer and decides what its body is.
func (p *part) begin(resp *http.Response) error {
	if p.n > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		if err := p.restart(); err != nil {
			return &diskError{err}
		}
		return fmt.Errorf("it cannot go on with a part: %w", io.ErrUnexpectedEOF)
	}
	if err := checkStatus(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		if p.n > 0 {
			if err := p.restart(); err != nil {
				return &diskError{err}
			}
		}
	} else if want := fmt.Sprintf("bytes %d-%d/%d", p.n, p.size-1, p.size); resp.Header.Get("Content-Range") != want {
		return lie("it was asked for the bytes from %d and answers with %.80q", p.n, resp.Header.Get("Content-Range"))
	}
	if resp.ContentLength >= 0 && resp.ContentLength != p.size-p.n {
		return lie("it has %d bytes, the manifest says %d", resp.ContentLength+p.n, p.size)
	}
	return nil
}

func (p *part) write(data []byte) error {
	if _, err := p.file.WriteAt(data, p.n); err != nil {
		return err
	}
	p.hash.Write(data)
	p.n += int64(len(data))
	p.report(p.n)
	return nil
}

// restart forgets what is there.
func (p *part) restart() error {
	p.n = 0
	p.hash.Reset()
	return p.file.Truncate(0)
}

func (p *part) digest() string { return "sha256:" + hex.EncodeToString(p.hash.Sum(nil)) }

func (p *part) whole() bool { return p.n == p.size && p.digest() == p.want.String() }
