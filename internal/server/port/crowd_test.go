package port_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/server/port"
)

// TestConnections: as many connections as the limit, of both listeners together and before anybody has said who they are. One more is told
// why, nobody else notices, and whoever goes makes room.
func TestConnections(t *testing.T) {
	const most = 4
	f := start(t, false, func(c *port.Config) { c.MaxConnections = most })
	client := v1beta2rpc.NewGatewayServiceClient(f.dial(t, f.nativeAt, "good"))
	if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{}); err != nil {
		t.Fatal(err)
	}
	held := make([]net.Conn, most-1)
	for i := range held { // They send nothing: neither a token nor a request.
		held[i] = connect(t, f.addr)
	}
	within(t, "one too many is refused", func() error {
		resp, body, err := askRaw(t, f.addr)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusTooManyRequests || !resp.Close {
			return fmt.Errorf("%s %v %s", resp.Status, resp.Header, body)
		}
		var answer struct {
			Code    codes.Code
			Message string
			Details []struct{ Reason string }
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.Code != codes.ResourceExhausted || !strings.Contains(answer.Message, "4 connections") {
			return fmt.Errorf("%s: %w", body, err)
		}
		if !strings.Contains(string(body), `"LIMIT_EXCEEDED"`) || !strings.Contains(string(body), "retryDelay") || !strings.Contains(string(body), "--max-connections") {
			return fmt.Errorf("no reason, no time, or nothing to do: %s", body)
		}
		return nil
	})
	for where, addr := range map[string]string{"shared": f.addr, "native": f.nativeAt} {
		_, err := v1beta2rpc.NewGatewayServiceClient(f.dial(t, addr, "good")).AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s, over gRPC: %v", where, err)
		}
	}
	if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{}); err != nil {
		t.Errorf("a connection that was there: %v", err)
	}
	held[0].Close()
	within(t, "there is room again", func() error {
		resp, body, err := askRaw(t, f.addr)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", resp.Status, body)
		}
		return err
	})
	for _, c := range held[1:] {
		c.Close()
	}
}

// TestConnectionsOfTLS: where nothing can be said, one too many is closed.
func TestConnectionsOfTLS(t *testing.T) {
	f := start(t, true, func(c *port.Config) { c.MaxConnections = 1 })
	held := connect(t, f.addr)
	defer held.Close()
	within(t, "one too many is closed", func() error {
		resp, err := f.client(t, false).Get(f.url)
		if err == nil {
			resp.Body.Close()
			return errors.New("it was served")
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			return err
		}
		return nil
	})
}

func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// askRaw makes a request on a connection of its own and returns the answer.
func askRaw(t *testing.T, addr string) (*http.Response, []byte, error) {
	t.Helper()
	conn := connect(t, addr)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n"); err != nil {
		return nil, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// within waits for something that connections which come and go bring about.
func within(t *testing.T, what string, f func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
