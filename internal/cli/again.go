package cli

import (
	"context"
	"crypto/sha256"
	"io"
	"time"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of going on with a copy whose connection broke.
const (
	// copyAttempts is how often in a row it is tried without a byte that moves.
	copyAttempts = 10
	// copyBreaks is how often in all.
	copyBreaks = 100
	// copyPause is how long the first pause is; each is twice as long as the one before, up to copyLongestPause.
	copyPause        = 200 * time.Millisecond
	copyLongestPause = 5 * time.Second
)

// again makes attempts to copy until one succeeds or fails for another reason than the connection. moved is how many bytes moved
// so far. A connection that never was is none that broke.
func (s *session) again(ctx context.Context, c *client.Client, p *copyProgress, moved func() int64, attempt func(c *client.Client, n int) error) error {
	var own *client.Client // The server may be another by now: it is looked for again.
	defer func() {
		if own != nil {
			_ = own.Close()
		}
	}()
	idle, pause, seen := 0, copyPause, int64(0)
	for n := 0; ; n++ {
		err := attempt(c, n)
		if err == nil || ctx.Err() != nil || !broke(err, n) || n == 0 && moved() == 0 {
			return err
		}
		if now := moved(); now > seen {
			idle, pause, seen = 0, copyPause, now
		}
		if idle++; idle > copyAttempts || n >= copyBreaks {
			return err
		}
		p.say("%s; going on in %s", fault.From(err).Message, pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, copyLongestPause)
		next, cerr := s.connect()
		if cerr != nil {
			continue // No server runs here just now.
		}
		if own != nil {
			_ = own.Close()
		}
		own, c = next, next
	}
}

// broke reports whether an attempt failed for what may be over in a moment.
func broke(err error, n int) bool {
	return fault.Is(err, fault.Unavailable) || n > 0 && fault.HasReason(err, fault.ReasonFileBusy)
}

// resumeHint says how to go on with what is there.
func resumeHint(err error) error {
	if e := fault.From(err); fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Canceled) {
		e = e.Clone()
		e.Hint = "What was copied is kept: the same command with --resume goes on with it."
		return e
	}
	return err
}

// digestOf returns the SHA-256 digest of the first n bytes.
func digestOf(ctx context.Context, r io.ReaderAt, n int64) ([]byte, error) {
	sum, buf := sha256.New(), make([]byte, digestChunk)
	for at := int64(0); at < n; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := r.ReadAt(buf[:min(int64(len(buf)), n-at)], at)
		sum.Write(buf[:got])
		at += int64(got)
		if err != nil && at < n {
			return nil, err
		}
	}
	return sum.Sum(nil), nil
}

// digestChunk is how much is read at a time to make a digest, in bytes.
const digestChunk = 256 << 10
