package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// TestPause: a registry that asks to be left alone is left alone by every pull, not only by the one that was told. A pause that can be
// waited for is, a longer one is told with what the registry said, and nothing is sent meanwhile.
func TestPause(t *testing.T) {
	asks := func(w *world, after string) (requests *atomic.Int64) {
		requests = new(atomic.Int64)
		w.registry.Wrap(func(real http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					rw.Header().Set("Retry-After", after)
					rw.WriteHeader(http.StatusTooManyRequests)
					fmt.Fprint(rw, `{"errors": [{"code": "TOOMANYREQUESTS", "message": "come back later"}]}`)
					return
				}
				real.ServeHTTP(rw, r)
			})
		})
		return requests
	}
	t.Run("longer than anybody waits", func(t *testing.T) {
		w := newWorld(t)
		c := w.client()
		first, second := w.with(c), w.with(c)
		requests := asks(w, "3600")
		checkPause(t, "the one that was told", pullOf(t, first))
		checkPause(t, "another", pullOf(t, second))
		checkPause(t, "a third, that begins now", openError(w, c))
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests, want the one that was refused", n)
		}
	})
	t.Run("short enough to wait for", func(t *testing.T) {
		w := newWorld(t)
		c := w.client()
		first, second := w.with(c), w.with(c)
		requests := asks(w, "1")
		at := time.Now()
		if err := pullOf(t, first); err != nil {
			t.Error(err)
		}
		if took := time.Since(at); took < time.Second {
			t.Errorf("asked again after %s, the registry asked for 1s", took)
		}
		if err := pullOf(t, second); err != nil || requests.Load() != 3 {
			t.Errorf("%d requests, %v", requests.Load(), err)
		}
	})
}

// TestPauseOfTokenServer: the same when it is the token server that asks, before a pull and in the middle of one.
func TestPauseOfTokenServer(t *testing.T) {
	for name, c := range map[string]struct {
		after   string
		ok      bool
		refused int64 // Which token is refused.
	}{
		"waited for":               {"1", true, 1},
		"too long":                 {"3600", false, 1},
		"in the middle, waited":    {"1", true, 2},
		"in the middle, too long":  {"3600", false, 2},
		"a date":                   {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), false, 1},
		"without a time, repeated": {"", true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var tokens atomic.Int64
			w.registry.Wrap(func(real http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					switch n := tokens.Load(); {
					case r.URL.Path == "/token" && tokens.Add(1) == c.refused:
						rw.Header().Set("Retry-After", c.after)
						rw.WriteHeader(http.StatusTooManyRequests)
					case r.URL.Path == "/token":
						fmt.Fprintf(rw, `{"token": "t%d"}`, tokens.Load())
					case n >= c.refused && r.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", n): // Earlier ones have expired.
						real.ServeHTTP(rw, r)
					default:
						rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, w.registry.Host))
						rw.WriteHeader(http.StatusUnauthorized)
					}
				})
			})
			client := w.client()
			s, err := w.openWith(client)
			if err == nil {
				err = pullOf(t, s)
			}
			if c.ok && err != nil {
				t.Fatal(err)
			}
			if !c.ok {
				checkPause(t, "a pull", err)
				asked := tokens.Load()
				checkPause(t, "the next", openError(w, client))
				if n := tokens.Load(); n != asked {
					t.Errorf("%d tokens were asked for after the token server asked for a pause", n-asked)
				}
			}
		})
	}
}

// TestPullsPerMinute: no more manifests are asked for than the operator allows, by all pulls of a registry together; a pull whose turn
// would come too late is told so at once.
func TestPullsPerMinute(t *testing.T) {
	w := newWorld(t)
	w.cfg.Hosts[w.registry.Host] = Host{Private: true, Insecure: true, PullsPerMinute: 3}
	c := w.client()
	sessions := []*Session{w.with(c), w.with(c)}
	w.registry.Seen("")
	for i := range 3 {
		if err := pullOf(t, sessions[i%2]); err != nil {
			t.Fatalf("pull %d: %v", i+1, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // The next turn is in 20 s.
	defer cancel()
	_, _, err := sessions[0].Manifest(ctx, "v1")
	if !fault.Is(err, fault.Exhausted) || !fault.HasReason(err, fault.ReasonImagePullFailed) || !strings.Contains(err.Error(), "max_pulls_per_minute of 3") {
		t.Errorf("the fourth: %v", err)
	}
	if _, err := w.download(sessions[1]); err != nil {
		t.Errorf("a layer is no manifest: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := sessions[1].Manifest(ctx, "v1"); err == nil || fault.HasReason(err, fault.ReasonImagePullFailed) {
		t.Errorf("one whose caller has gone: %v", err)
	}
	if seen := w.registry.Seen("/manifests/"); len(seen) != 3 {
		t.Errorf("requests: %q", seen)
	}
}

func checkPause(t *testing.T, who string, err error) {
	t.Helper()
	f := fault.From(err)
	if !fault.Is(err, fault.Exhausted) || !fault.HasReason(err, fault.ReasonImagePullFailed) || f.RetryAfter < 59*time.Minute || !strings.Contains(f.Message, "asks to wait") {
		t.Errorf("%s: %v, retry after %s", who, err, f.RetryAfter)
	}
}

func pullOf(t *testing.T, s *Session) error {
	_, err := s.manifest(t, "v1")
	return err
}

func openError(w *world, c *Client) error {
	_, err := w.openWith(c)
	return err
}
