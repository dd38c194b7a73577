package server_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/server"
)

// full is a runner whose disk is full: of what main processes print it keeps what frames say.
type full struct {
	runner.Link
	frames []backend.LogFrame
}

func (f *full) Logs(context.Context, string, backend.LogQuery) (backend.LogReader, error) {
	return &fullLogs{frames: f.frames}, nil
}

type fullLogs struct{ frames []backend.LogFrame }

func (l *fullLogs) Recv() (backend.LogFrame, error) {
	if len(l.frames) == 0 {
		return backend.LogFrame{}, io.EOF
	}
	f := l.frames[0]
	l.frames = l.frames[1:]
	return f, nil
}

func (l *fullLogs) Session() string { return "s" }
func (l *fullLogs) Close() error    { return nil }

// TestLogsThatWereNotKept: output that a full disk did not take is told, wherever it is missing: there is no clean end without it.
func TestLogsThatWereNotKept(t *testing.T) {
	data := func(offset int64, text string) backend.LogFrame {
		return backend.LogFrame{Kind: backend.LogStdout, Data: []byte(text), Offset: offset, At: time.Now()}
	}
	gap := func(offset, lost int64) backend.LogFrame {
		return backend.LogFrame{Kind: backend.LogGap, Offset: offset, Lost: lost}
	}
	for name, c := range map[string]struct {
		frames []backend.LogFrame
		text   string
		code   string
		offset uint64
	}{
		"all of it":     {[]backend.LogFrame{gap(0, 100)}, "", "OUTPUT_NOT_KEPT", 0},
		"the end":       {[]backend.LogFrame{data(0, "begin\n"), gap(6, 100)}, "begin\n", "STREAM_BACKPRESSURE", 6},
		"the middle":    {[]backend.LogFrame{data(0, "begin\n"), gap(6, 100), data(106, "end\n")}, "begin\n", "STREAM_BACKPRESSURE", 6},
		"the beginning": {[]backend.LogFrame{gap(0, 100), data(100, "end\n")}, "end\n", "", 104},
		"nothing":       {[]backend.LogFrame{data(0, "end\n")}, "end\n", "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOver(t, server.Config{Version: "1.2.3"}, func(l runner.Link) runner.Link { return &full{l, c.frames} })
			id := w.idle()
			for _, follow := range []bool{true, false} {
				l := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, Follow: follow})
				if l.text != c.text || l.failed.GetCode() != c.code || l.offset != c.offset || l.complete != (!follow && c.code == "") || !errors.Is(l.err, io.EOF) {
					t.Errorf("follow %v: %+v", follow, l)
				}
			}
		})
	}
}
