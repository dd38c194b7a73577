package library

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// guarded is a world whose registry knows users.
type guarded struct {
	*world
	file string

	mu    sync.Mutex
	users map[string]bool // by the header that they send
	down  bool
	asked []string
}

func newGuarded(t *testing.T, verify Verify) *guarded {
	w := &guarded{world: newWorld(t), users: map[string]bool{}, file: filepath.Join(t.TempDir(), "config.json")}
	w.cfg.Verify, w.cfg.Registry.AuthFile = verify, w.file
	w.reg.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.mu.Lock()
			down, known := w.down, w.users[r.Header.Get("Authorization")]
			if known && r.URL.Path != "/v2/" {
				w.asked = append(w.asked, r.Method+" "+r.URL.Path)
			}
			w.mu.Unlock()
			switch {
			case down:
				rw.WriteHeader(http.StatusServiceUnavailable)
			case !known:
				rw.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				rw.WriteHeader(http.StatusUnauthorized)
			default:
				real.ServeHTTP(rw, r)
			}
		})
	})
	return w
}

// admit says which users the registry knows; "" is everybody.
func (w *guarded) admit(users ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users = map[string]bool{}
	for _, u := range users {
		header := ""
		if u != "" {
			header = "Basic " + base64.StdEncoding.EncodeToString([]byte(u+":secret"))
		}
		w.users[header] = true
	}
}

// show makes the runner show the registry a user, "" for none.
func (w *guarded) show(user string) {
	w.t.Helper()
	text := `{}`
	if user != "" {
		text = fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, w.reg.Host, base64.StdEncoding.EncodeToString([]byte(user+":secret")))
	}
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *guarded) fail(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// questions takes what the registry was asked and answered since it was last asked for.
func (w *guarded) questions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.asked
	w.asked = nil
	return out
}

// runs is the code of no fault.
const runs fault.Code = -1

// runs launches an image that is here: want is the fault's code, or runs, asks how often the registry was asked for it.
func (w *guarded) runs(l *Library, ref string, want fault.Code, asks int) {
	w.t.Helper()
	w.questions()
	g, err := l.Get(w.t.Context(), Request{Ref: ref})
	switch {
	case want == runs && err != nil:
		w.t.Errorf("%s: %v", ref, err)
	case want == runs && !g.Cached():
		w.t.Errorf("%s was downloaded again", ref)
	case want != runs && (!fault.HasReason(err, fault.ReasonImageUnverified) || !fault.Is(err, want)):
		w.t.Errorf("%s: %v, want %s", ref, err, want)
	}
	if g != nil {
		g.Hold.Release()
	}
	got := w.questions()
	for _, q := range got {
		if q != "HEAD /v2/team/tool/manifests/"+w.top.Digest.String() {
			w.t.Errorf("%s: asked %s", ref, q)
		}
	}
	if len(got) != asks {
		w.t.Errorf("%s: asked %d times, want %d: %q", ref, len(got), asks, got)
	}
}

// TestVerifyChanged: an image that was opened for a credential is run as long as the runner shows it; then its registry decides, once.
func TestVerifyChanged(t *testing.T) {
	w := newGuarded(t, "")
	l := w.open()
	w.admit("alice", "bob")
	w.show("alice")
	w.get(l, w.ref(":v1")).Hold.Release()
	digest := w.ref("@" + w.top.Digest.String())
	w.runs(l, w.ref(":v1"), runs, 0)
	w.runs(l, digest, runs, 0)
	// Who shows nothing, or what the registry does not know, runs nothing of it, also who knows the digest.
	for _, user := range []string{"", "mallory"} {
		w.show(user)
		w.runs(l, w.ref(":v1"), fault.Precondition, 0)
		w.runs(l, digest, fault.Precondition, 0)
	}
	if f, err := l.Find(digest, Names{}); err != nil || f.Image == nil || f.Proven {
		t.Errorf("what is here and not open: %+v, %v", f, err)
	}
	// Whom it knows, it opens it for, and it is not asked again: by this library or the next.
	w.show("bob")
	w.runs(l, w.ref(":v1"), runs, 1)
	w.runs(l, w.ref(":v1"), runs, 0)
	l.Close()
	l = w.open()
	w.runs(l, w.ref(":v1"), runs, 0)
	// Of an entry of the credentials the last is remembered: one that was replaced has to be asked for again.
	w.show("alice")
	w.runs(l, w.ref(":v1"), runs, 1)
	// A registry that cannot be asked opens nothing, and is no refusal for good.
	w.show("carol")
	w.admit("carol")
	w.fail(true)
	w.runs(l, w.ref(":v1"), fault.Unavailable, 0)
	w.fail(false)
	w.runs(l, w.ref(":v1"), runs, 1)
	// Nothing of a credential is written down.
	names, err := filepath.Glob(filepath.Join(w.cfg.Dir, "names", "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil || bytes.Contains(data, []byte("secret")) || bytes.Contains(data, []byte("alice")) {
			t.Errorf("%s, %v", data, err)
		}
	}
}

// TestVerifyPublic: what a registry gave to somebody who showed nothing is everybody's, whatever is shown later.
func TestVerifyPublic(t *testing.T) {
	w := newGuarded(t, "")
	l := w.open()
	w.admit("")
	w.show("")
	w.get(l, w.ref(":v1")).Hold.Release()
	w.fail(true)
	for _, user := range []string{"", "alice"} {
		w.show(user)
		w.runs(l, w.ref(":v1"), runs, 0)
	}
}

// TestVerifyImported: what was brought by hand is open to all.
func TestVerifyImported(t *testing.T) {
	w := newGuarded(t, VerifyAlways)
	w.show("")
	l := w.open()
	if _, err := l.Import(t.Context(), w.ref(":v1"), false, bytes.NewReader(packed(t, w.l.Dir))); err != nil {
		t.Fatal(err)
	}
	w.runs(l, w.ref(":v1"), runs, 0)
	w.now = w.now.Add(2 * VerifiedFor)
	w.runs(l, w.ref("@"+w.top.Digest.String()), runs, 0)
}

// TestVerifyAlways: an answer counts for its time; then the registry is asked again, and may have changed its mind.
func TestVerifyAlways(t *testing.T) {
	w := newGuarded(t, VerifyAlways)
	l := w.open()
	w.admit("alice")
	w.show("alice")
	w.get(l, w.ref(":v1")).Hold.Release()
	w.now = w.now.Add(VerifiedFor - time.Second)
	w.runs(l, w.ref(":v1"), runs, 0)
	w.now = w.now.Add(2 * time.Second)
	w.runs(l, w.ref(":v1"), runs, 1)
	w.runs(l, w.ref(":v1"), runs, 0)
	w.admit("bob")
	w.now = w.now.Add(VerifiedFor)
	w.runs(l, w.ref(":v1"), fault.Precondition, 0)
}

// TestVerifyNever: whatever is here is run.
func TestVerifyNever(t *testing.T) {
	w := newGuarded(t, VerifyNever)
	l := w.open()
	w.admit("alice")
	w.show("alice")
	w.get(l, w.ref(":v1")).Hold.Release()
	w.show("")
	w.runs(l, w.ref(":v1"), runs, 0)
}

// TestVerifyOnce: however many launches wait, the registry is asked once.
func TestVerifyOnce(t *testing.T) {
	w := newGuarded(t, "")
	l := w.open()
	w.admit("alice", "bob")
	w.show("alice")
	w.get(l, w.ref(":v1")).Hold.Release()
	w.show("bob")
	w.questions()
	var all sync.WaitGroup
	start := make(chan struct{})
	for range 50 {
		all.Go(func() {
			<-start
			g, err := l.Get(t.Context(), Request{Ref: w.ref(":v1")})
			if err != nil {
				t.Error(err)
				return
			}
			g.Hold.Release()
		})
	}
	close(start)
	all.Wait()
	if got := w.questions(); len(got) > 2 { // One that comes just when the first is answered may ask once more.
		t.Errorf("asked %d times", len(got))
	}
}
