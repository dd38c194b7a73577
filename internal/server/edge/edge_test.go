package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// chain returns a chain that knows the token "good", and its log.
func chain(valid func() error) (*Chain, *bytes.Buffer) {
	log := &bytes.Buffer{}
	return New(Config{
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: time.Now, NewID: func() string { return "id-1" },
		Authenticate: func(_ context.Context, secret string) (core.Principal, error) {
			if secret != "good" {
				return core.Principal{}, unauthenticated("no")
			}
			return core.Principal{OrgID: "org-1", Actor: "token:t"}, valid()
		},
	}), log
}

func always() error { return nil }

func request(t *testing.T, token, url, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// TestLog: one line per call with who, what and how it ended, and never a token, a body or a query string.
func TestLog(t *testing.T) {
	for name, c := range map[string]struct {
		token   string
		handler http.HandlerFunc
		says    []string
	}{
		"fine": {"good", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) },
			[]string{`"level":"DEBUG"`, `"call":"POST /v1/x%20y"`, `"status":201`, `"code":"OK"`, `"org":"org-1"`, `"actor":"token:t"`, `"request_id":"id-1"`}},
		"no token": {"s3cret", nil, []string{`"level":"INFO"`, `"status":401`, `"code":"Unauthenticated"`, `"reason":"TOKEN_INVALID"`, `"actor":""`}},
		"refused": {"good", func(w http.ResponseWriter, r *http.Request) {
			Fail(r.Context(), w, fault.Preconditionf("WHY", "because"))
		},
			[]string{`"level":"INFO"`, `"status":400`, `"reason":"WHY"`}},
		"ours": {"good", func(w http.ResponseWriter, r *http.Request) { Fail(r.Context(), w, errors.New("disk on fire")) },
			[]string{`"level":"ERROR"`, `"status":500`, "disk on fire"}},
		"panic": {"good", func(http.ResponseWriter, *http.Request) { panic("at the disco") },
			[]string{`"level":"ERROR"`, `"status":500`, "at the disco", "edge_test.go"}},
	} {
		t.Run(name, func(t *testing.T) {
			ch, log := chain(always)
			rec := httptest.NewRecorder()
			ch.HTTP(c.handler).ServeHTTP(rec, request(t, c.token, "/v1/x%20y?key=s3cret", "s3cret body"))
			line := log.String()
			if strings.Count(line, "\n") != 1 {
				t.Errorf("lines: %s", line)
			}
			for _, s := range c.says {
				if !strings.Contains(line, s) {
					t.Errorf("no %s in %s", s, line)
				}
			}
			if strings.Contains(line, "s3cret") || strings.Contains(line, "good") {
				t.Errorf("the log has a secret: %s", line)
			}
			if strings.Contains(rec.Body.String(), "fire") || strings.Contains(rec.Body.String(), "disco") {
				t.Errorf("the answer has a cause: %s", rec.Body)
			}
		})
	}
}

func TestLongPathsAreCutInTheLog(t *testing.T) {
	ch, log := chain(always)
	ch.HTTP(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), request(t, "good", "/"+strings.Repeat("x", 10_000), ""))
	if log.Len() > 1000 {
		t.Errorf("%d bytes", log.Len())
	}
}

// TestOrder: a caller without a token reaches no handler and has its body left unread.
func TestOrder(t *testing.T) {
	ch, _ := chain(always)
	body := &counted{r: strings.NewReader("body")}
	r := request(t, "bad", "/", "")
	r.Body = body
	rec := httptest.NewRecorder()
	ch.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was reached") })).ServeHTTP(rec, r)
	if rec.Code != http.StatusUnauthorized || body.n != 0 || rec.Header().Get(RequestIDHeader) != "id-1" {
		t.Errorf("%d, %d bytes read, %v", rec.Code, body.n, rec.Header())
	}
}

type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (c *counted) Close() error { return nil }

// TestAbort: a handler that cuts its answer off, as net/http allows, is not mistaken for a failure.
func TestAbort(t *testing.T) {
	ch, _ := chain(always)
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
			t.Errorf("recovered %v", v)
		}
	}()
	ch.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(httptest.NewRecorder(), request(t, "good", "/", ""))
}

// TestTokensEndTheirStreams: a stream ends soon after its token does, with the reason, and not because a store is down.
func TestTokensEndTheirStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var state atomic.Pointer[fault.Error]
		ch, _ := chain(func() error {
			if f := state.Load(); f != nil {
				return f
			}
			return nil
		})
		ended := make(chan error, 1)
		go func() {
			ended <- whileValid(t.Context(), func(ctx context.Context) (core.Principal, error) { return ch.Bearer(ctx, []string{"Bearer good"}) }, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		running := func(what string) {
			t.Helper()
			time.Sleep(3 * RecheckEvery)
			synctest.Wait()
			select {
			case err := <-ended:
				t.Fatalf("%s ended the stream: %v", what, err)
			default:
			}
		}
		running("a good token")
		state.Store(fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "down"))
		running("a store that is down")
		state.Store(fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "revoked"))
		time.Sleep(RecheckEvery)
		synctest.Wait()
		if err := <-ended; !fault.HasReason(err, fault.ReasonTokenInvalid) {
			t.Errorf("ended with %v", err)
		}
	})
}
