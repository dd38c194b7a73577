package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

func TestFrames(t *testing.T) {
	var b []byte
	payloads := [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 600), bytes.Repeat([]byte("z"), wire.MaxData)}
	for _, p := range payloads {
		b = wire.Append(b, wire.TypeStdout, p)
	}
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b))} {
		frames := wire.NewReader(r)
		for _, p := range payloads {
			f, err := frames.Read()
			if err != nil || f.Type != wire.TypeStdout || !bytes.Equal(f.Payload, p) || !bytes.Equal(f.Raw(), wire.Append(nil, wire.TypeStdout, p)) {
				t.Fatalf("%s: %d bytes: %v, %v", name, len(p), f.Type, err)
			}
		}
		if _, err := frames.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
	for cut := 1; cut < wire.HeaderSize+1; cut++ {
		frames := wire.NewReader(bytes.NewReader(wire.Append(nil, wire.TypeError, []byte("x"))[:cut]))
		if _, err := frames.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d: %v", cut, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"type 0":          {0, 0, 0, 0, 0, 0, 0, 0},
		"unknown type":    {0, 0, 0, 0, 99, 0, 0, 0},
		"reserved byte":   {0, 0, 0, 0, 2, 0, 1, 0},
		"huge":            {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0},
		"one too much":    {0, 1, 0, 1, byte(wire.TypeStdin), 0, 0, 0},
		"payload in end":  {0, 0, 0, 1, byte(wire.TypeEnd), 0, 0, 0, 1},
		"long credit":     {0, 0, 0, 5, byte(wire.TypeCredit), 0, 0, 0, 1, 2, 3, 4, 5},
		"HTTP":            []byte("GET / HTTP/1.1\r\n"),
		"JSON, no header": []byte(`{"op":"exec"}`),
	} {
		if f, err := wire.NewReader(bytes.NewReader(b)).Read(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	if err := wire.Write(io.Discard, wire.TypeStdin, make([]byte, wire.MaxData+1)); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a frame that no reader takes was written: %v", err)
	}
	for _, payload := range []string{"x", "[]", `{"op":1}`, `{"version":1} {}`} {
		f, err := wire.NewReader(bytes.NewReader(wire.Append(nil, wire.TypeRequest, []byte(payload)))).Read()
		var req wire.Request
		if err != nil || !errors.Is(f.Decode(&req), wire.ErrMalformed) {
			t.Errorf("%s was read as a request: %+v, %v", payload, req, err)
		}
	}
}

func TestOutput(t *testing.T) {
	o := wire.Output{Offset: 1 << 40, Time: time.Unix(12, 345), Stream: wire.Stderr, Data: []byte("data")}
	got, err := wire.ParseOutput(wire.AppendOutput(nil, o))
	if err != nil || got.Offset != o.Offset || !got.Time.Equal(o.Time) || got.Stream != o.Stream || string(got.Data) != "data" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, make([]byte, wire.OutputHeader-1), make([]byte, wire.OutputHeader), append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, make([]byte, 7)...)} {
		if _, err := wire.ParseOutput(bad); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// The numbers are the protocol: a sandbox that was started by an older server is served by a newer one.
func TestNumbersStay(t *testing.T) {
	var got []byte
	for _, typ := range []wire.Type{
		wire.TypeRequest, wire.TypeOK, wire.TypeError, wire.TypeData, wire.TypeEnd, wire.TypeStarted, wire.TypeStdin, wire.TypeCloseStdin,
		wire.TypeStdout, wire.TypeStderr, wire.TypeCredit, wire.TypeResize, wire.TypeSignal, wire.TypeExit, wire.TypeOutput,
	} {
		got = append(got, byte(typ))
	}
	if want := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; !bytes.Equal(got, want) || wire.Version != 1 {
		t.Errorf("types %v", got)
	}
	if got := wire.AppendUint32(nil, wire.TypeResize, 80<<16|24); !bytes.Equal(got, []byte{0, 0, 0, 4, 12, 0, 0, 0, 0, 80, 0, 24}) {
		t.Errorf("resize %v", got)
	}
	var b bytes.Buffer
	if err := wire.WriteJSON(&b, wire.TypeRequest, wire.Request{Version: 1, Op: wire.OpExec, Argv: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	if want := "\x00\x00\x00\x29\x01\x00\x00\x00" + `{"version":1,"op":"exec","argv":["true"]}`; b.String() != want {
		t.Errorf("request %q", b.String())
	}
}

// Whatever yamux writes must arrive as it was written, and a header with its body in one piece.
func TestCoalesce(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := wire.Coalesce(a)
	data := append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3}, "abc"...)
	window := []byte{0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9}
	empty := []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}
	go func() {
		for _, p := range [][]byte{data[:12], data[12:], window, empty} {
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Errorf("write %v: %d, %v", p, n, err)
			}
		}
		c.Close()
	}()
	got, err := io.ReadAll(b)
	if want := bytes.Join([][]byte{data, window, empty}, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(wire.Append(nil, wire.TypeStdout, []byte("hello")))
	f.Add(wire.Append(wire.AppendUint32(nil, wire.TypeCredit, 7), wire.TypeRequest, []byte(`{"version":1,"op":"exec","argv":["a"]}`)))
	f.Add(wire.Append(nil, wire.TypeOutput, wire.AppendOutput(nil, wire.Output{Stream: wire.Stdout, Data: []byte("x")})))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := wire.NewReader(bytes.NewReader(data))
		var again []byte
		for {
			frame, err := r.Read()
			if err != nil {
				if errors.Is(err, io.EOF) && !bytes.Equal(again, data) {
					t.Errorf("a clean end after %d of %d bytes", len(again), len(data))
				}
				break
			}
			if len(frame.Payload) > wire.MaxRequest {
				t.Errorf("payload of %d bytes", len(frame.Payload))
			}
			var req wire.Request
			_ = frame.Decode(&req)
			_, _ = frame.Uint32()
			if o, err := wire.ParseOutput(frame.Payload); err == nil && !bytes.Equal(o.Data, frame.Payload[wire.OutputHeader:]) {
				t.Error("output differs from its frame")
			}
			again = wire.Append(again, frame.Type, frame.Payload)
		}
		if !bytes.HasPrefix(data, again) {
			t.Error("frames do not read back as what they were")
		}
	})
}
