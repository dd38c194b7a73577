//go:build crash

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"syscall"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
)

// call makes a request with the administrator's token; in and out are JSON. The code is 0 when there was no answer.
func (m *machine) call(method, path string, in any) ([]byte, int) {
	return m.callAs(m.token, method, path, in)
}

func (m *machine) callAs(token, method, path string, in any) (answer []byte, code int) {
	return m.callWith(context.Background(), token, method, path, in)
}

func (m *machine) callWith(ctx context.Context, token, method, path string, in any) (answer []byte, code int) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			m.t.Error(err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, m.url+path, bytes.NewReader(body))
	if err != nil {
		m.t.Error(err)
		return nil, 0
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		answer, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		return answer, resp.StatusCode
	}
	if ctx.Err() != nil {
		return nil, 0 // It was given up here.
	}
	m.dead.Store(true)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		m.cut.Add(1)
	}
	return nil, 0
}

// read makes a request that has to be answered, and decodes the answer.
func (m *machine) read(path string, out any) {
	m.t.Helper()
	raw, code := m.call("GET", path, nil)
	if code != http.StatusOK {
		m.t.Fatalf("GET %s: %d %s", path, code, raw)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		m.t.Fatalf("GET %s: %v in %s", path, err, raw)
	}
}

// logs reads what a sandbox printed, to the end of the stream or of the server.
func (m *machine) logs(id string) {
	c, err := client.New(client.Config{URL: m.url, Token: m.token})
	if err != nil {
		m.t.Error(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.Logs().StreamLogs(ctx, &bermv1.StreamLogsRequest{SandboxId: id})
	for err == nil {
		_, err = stream.Recv()
	}
}

// copies moves a directory out of a sandbox and into it again.
func (m *machine) copies(id string) {
	c, err := client.New(client.Config{URL: m.url, Token: m.token})
	if err != nil {
		m.t.Error(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	from, err := c.Files().ReadArchive(ctx, &bermv1.ReadArchiveRequest{SandboxId: id, Path: "/etc/hosts"})
	if err != nil {
		return
	}
	to, err := c.Files().WriteArchive(ctx)
	if err != nil {
		return
	}
	init := &bermv1.WriteArchiveInit{SandboxId: id, Path: "/tmp", Name: "copied"}
	err = to.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: init}})
	for err == nil {
		var piece *bermv1.ReadArchiveResponse
		if piece, err = from.Recv(); err == nil {
			err = to.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Data{Data: piece.GetData()}})
		}
	}
	_, _ = to.CloseAndRecv()
	m.transfers(ctx, c, id)
}

// transfers moves a file out of a sandbox and into it again, so that it could be gone on with.
func (m *machine) transfers(ctx context.Context, c *client.Client, id string) {
	_, _ = c.Files().GetFileState(ctx, &bermv1.GetFileStateRequest{SandboxId: id, Path: "/tmp/moved"})
	from, err := c.Files().ReadFile(ctx, &bermv1.ReadFileRequest{SandboxId: id, Path: "/etc/hosts"})
	if err != nil {
		return
	}
	first, err := from.Recv()
	if err != nil {
		return
	}
	to, err := c.Files().WriteFile(ctx)
	if err != nil {
		return
	}
	init := &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/moved", Resumable: &bermv1.ResumableWrite{Size: first.GetInfo().GetSize()}}
	err = to.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: init}})
	for err == nil {
		var piece *bermv1.ReadFileResponse
		if piece, err = from.Recv(); err == nil {
			err = to.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: piece.GetData()}})
		}
	}
	_, _ = to.CloseAndRecv()
}
