package host

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// maxWords is how much of what the runtime and the init say is kept for error messages, in bytes.
	maxWords = 2 << 10
	// OutputRate is how much main process output per second is taken in the long run. Printing faster makes the main process
	// wait: copying is work of the shim, which the sandbox's CPU limit does not cover.
	OutputRate = 64 << 20
	// rateWindow is the time over which the rate is measured.
	rateWindow = 100 * time.Millisecond
)

// copyMain keeps what the main process prints, until its end.
func (s *sandbox) copyMain(stream wire.Stream, f io.Reader) {
	buf := make([]byte, wire.MaxChunk)
	var pace pace
	failed := false
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := s.spool.Append(stream, buf[:n]); err != nil && !failed {
				failed = true // Once: a full disk makes every piece fail, and the log is on the same disk.
				s.logf("output is lost from here on: %v", err)
			}
			pace.spend(n)
		}
		if err != nil {
			return
		}
	}
}

// pace slows a reader down to OutputRate.
type pace struct {
	begin time.Time
	used  int
}

func (p *pace) spend(n int) {
	now := time.Now()
	if now.Sub(p.begin) > rateWindow {
		p.begin, p.used = now, 0
	}
	p.used += n
	if p.used >= OutputRate/int(time.Second/rateWindow) {
		time.Sleep(rateWindow - now.Sub(p.begin))
	}
}

// words keeps the end of what was said.
type words struct {
	// ended is closed when nobody can say anything any more.
	ended chan struct{}
	mu    sync.Mutex
	last  []byte
}

func (w *words) read(f io.Reader) {
	defer close(w.ended)
	buf := make([]byte, maxWords)
	for {
		n, err := f.Read(buf)
		w.mu.Lock()
		w.last = append(w.last, buf[:n]...)
		w.last = w.last[max(0, len(w.last)-maxWords):]
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// tail returns it for the end of a message.
func (w *words) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := bytes.TrimSpace(bytes.ToValidUTF8(w.last, []byte("?"))); len(b) > 0 {
		return ": " + string(b)
	}
	return ""
}
