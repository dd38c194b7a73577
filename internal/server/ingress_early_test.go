package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestPortAnswersEarly: what is left of a body when the answer has ended is neither another request nor waited for, and the caller's offer
// of another HTTP does not reach the program.
func TestPortAnswersEarly(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "early") })
	for name, begun := range map[string]string{
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"Content-Length": "Content-Length: 100000\r\n\r\nhello",
	} {
		c, err := net.Dial("tcp", s.addr)
		s.must(err)
		defer c.Close()
		s.must(c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = fmt.Fprintf(c, "POST %s/ HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer %s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n%s", s.path, s.user, begun)
		s.must(err)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		s.must(err)
		text, err := io.ReadAll(resp.Body)
		s.must(err)
		if resp.StatusCode != http.StatusOK || string(text) != "early" || !resp.Close {
			t.Errorf("%s: %d %q, close %v", name, resp.StatusCode, text, resp.Close)
		}
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: gw\r\n\r\n") // it may be gone already
		if more, err := io.ReadAll(r); len(more) > 0 {
			t.Errorf("%s: another answer: %q, %v", name, more, err)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is held", name)
		}
		if got := <-s.seen; got.Header.Get("Upgrade") != "" || got.Header.Get("Http2-Settings") != "" || strings.Contains(strings.ToLower(got.Header.Get("Connection")), "upgrade") {
			t.Errorf("%s: the program sees %v", name, got.Header)
		}
	}
}
