package server_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
)

// TestFileStreams: archives and content of any size over berm.v1: init first and once, whole or an error, other organizations' missing.
func TestFileStreams(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	files := func(token string) bermv1rpc.FileServiceClient {
		return bermv1rpc.NewFileServiceClient(w.dial(w.addr, token))
	}
	data := func(b []byte) *bermv1.WriteArchiveRequest {
		return &bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Data{Data: b}}
	}
	initOf := func(id string) *bermv1.WriteArchiveRequest {
		return &bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: &bermv1.WriteArchiveInit{SandboxId: id, Path: "/tmp", Name: "tree"}}}
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []*tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, {Typeflag: tar.TypeReg, Name: "file", Mode: 0o600, Size: 200_000}} {
		w.must(tw.WriteHeader(h))
		_, err := tw.Write(make([]byte, h.Size))
		w.must(err)
	}
	w.must(tw.Close())
	send := func(token string, frames ...*bermv1.WriteArchiveRequest) error {
		s, err := files(token).WriteArchive(w.ctx())
		w.must(err)
		for _, f := range frames {
			if err := s.Send(f); err != nil {
				break // the answer says why
			}
		}
		_, err = s.CloseAndRecv()
		return err
	}
	w.must(send(w.user, initOf(id), data(archive.Bytes()[:1000]), data(archive.Bytes()[1000:])))
	read := func(token, id, path string) ([]byte, error) {
		s, err := files(token).ReadArchive(w.ctx(), &bermv1.ReadArchiveRequest{SandboxId: id, Path: path})
		w.must(err)
		var all []byte
		for {
			m, err := s.Recv()
			if err != nil {
				return all, err
			}
			all = append(all, m.GetData()...)
		}
	}
	all, err := read(w.user, id, "/tmp/tree")
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	in := tar.NewReader(bytes.NewReader(all))
	for _, want := range []string{"./", "file"} {
		if h, err := in.Next(); err != nil || h.Name != want {
			t.Errorf("%v %v, want %s", h, err, want)
		}
	}

	stranger := w.newOrg("other")
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"no init":                   {send(w.user, data([]byte("x"))), codes.InvalidArgument},
		"nothing":                   {send(w.user), codes.InvalidArgument},
		"init twice":                {send(w.user, initOf(id), initOf(id)), codes.InvalidArgument},
		"no archive":                {send(w.user, initOf(id), data(make([]byte, 5000))), codes.InvalidArgument},
		"unknown sandbox":           {send(w.user, initOf("unknown")), codes.NotFound},
		"another organization":      {send(stranger, initOf(id)), codes.NotFound},
		"read of another's":         {second(read(stranger, id, "/tmp")), codes.NotFound},
		"read of what is not":       {second(read(w.user, id, "/absent")), codes.NotFound},
		"read of a relative path":   {second(read(w.user, id, "x")), codes.InvalidArgument},
		"file: another's":           {w.writeFile(stranger, id, "/tmp/f", 0, "x"), codes.NotFound},
		"file: a mode that is none": {w.writeFile(w.user, id, "/tmp/f", 0o10000, "x"), codes.InvalidArgument},
	} {
		if status.Code(c.err) != c.want || reasonOf(c.err) == "" {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	w.must(w.writeFile(w.user, id, "/tmp/f", 0, "content"))
	w.call(w.user, "GET", "/v1beta2/sandboxes/"+id+"/files/%2Ftmp%2Ff", nil).want(200, "Y29udGVudA==")
}

func second[A any](_ A, err error) error { return err }

// writeFile streams content byte by byte.
func (w *world) writeFile(token, id, path string, mode uint32, content string) error {
	w.Helper()
	s, err := bermv1rpc.NewFileServiceClient(w.dial(w.addr, token)).WriteFile(w.ctx())
	w.must(err)
	_ = s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: path, Mode: mode}}})
	for _, c := range []byte(content) {
		if s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: []byte{c}}}) != nil {
			break // the answer says why
		}
	}
	_, err = s.CloseAndRecv()
	return err
}
