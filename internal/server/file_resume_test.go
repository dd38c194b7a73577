package server_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
)

// TestFilesGoOn: a write that was cancelled is gone on with, a read begins at an offset, and what does not fit is refused with its reason.
func TestFilesGoOn(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	files := bermv1rpc.NewFileServiceClient(w.dial(w.addr, w.user))
	digest := func(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }
	write := func(ctx context.Context, r *bermv1.ResumableWrite, data ...string) (bermv1rpc.FileService_WriteFileClient, error) {
		s, err := files.WriteFile(ctx)
		w.must(err)
		_ = s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/on", Resumable: r}}})
		for _, d := range data {
			if err := s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: []byte(d)}}); err != nil {
				return s, err
			}
		}
		return s, nil
	}
	whole := func(r *bermv1.ResumableWrite, data ...string) error {
		s, _ := write(w.ctx(), r, data...)
		_, err := s.CloseAndRecv()
		return err
	}
	ctx, cancel := context.WithCancel(w.ctx())
	_, err := write(ctx, &bermv1.ResumableWrite{Size: 10}, "01234")
	w.must(err)
	state := func() *bermv1.FileState {
		s, err := files.GetFileState(w.ctx(), &bermv1.GetFileStateRequest{SandboxId: id, Path: "/tmp/on"})
		w.must(err)
		return s
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never %s", what)
			}
		}
	}
	until("busy", func() bool { return state().GetBusy() })
	cancel()
	until("kept", func() bool { return !state().GetBusy() })
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"without a digest": {whole(&bermv1.ResumableWrite{Size: 10, Offset: 5}, "56789"), codes.InvalidArgument},
		"negative offset":  {whole(&bermv1.ResumableWrite{Size: 10, Offset: -1}, "x"), codes.InvalidArgument},
		"negative size":    {whole(&bermv1.ResumableWrite{Size: -1}, "x"), codes.InvalidArgument},
		"behind the end":   {whole(&bermv1.ResumableWrite{Size: 4, Offset: 5, PrefixSha256: digest("01234")}), codes.InvalidArgument},
	} {
		if status.Code(c.err) != c.want || reasonOf(c.err) == "" {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	at := state().GetPartialSize() // The cancellation may have overtaken the data.
	w.must(whole(&bermv1.ResumableWrite{Size: 10, Offset: at, PrefixSha256: digest("01234"[:at])}, "0123456789"[at:]))
	if s := state(); s.GetPartialSize() != 0 || s.GetFile().GetSize() != 10 {
		t.Errorf("%v", s)
	}
	if err := whole(&bermv1.ResumableWrite{Size: 10, Offset: 5, PrefixSha256: digest("01234")}, "56789"); status.Code(err) != codes.Aborted || reasonOf(err) != "FILE_CHANGED" {
		t.Errorf("twice: %v", err)
	}
	read := func(offset int64, prefix []byte) (string, error) {
		s, err := files.ReadFile(w.ctx(), &bermv1.ReadFileRequest{SandboxId: id, Path: "/tmp/on", Offset: offset, PrefixSha256: prefix})
		w.must(err)
		var all string
		for {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return all, nil
			}
			if err != nil {
				return all, err
			}
			all += string(m.GetData())
		}
	}
	if got, err := read(7, digest("0123456")); err != nil || got != "789" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := read(7, digest("another")); status.Code(err) != codes.Aborted || reasonOf(err) != "FILE_CHANGED" || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}
