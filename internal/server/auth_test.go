package server_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// rpc is one method of the schema with one of its REST forms.
type rpc struct {
	full         string
	method       protoreflect.MethodDescriptor
	verb, path   string
	serverStream bool
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

// rpcs lists every method of every service, so that a test of all of them cannot forget a new one. Variables of paths become x.
func rpcs() []rpc {
	var out []rpc
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if pkg := f.Package(); pkg != "coreweave.sandbox.v1beta2" && pkg != "berm.v1" {
			return true
		}
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			for j := range svc.Methods().Len() {
				m := svc.Methods().Get(j)
				r := rpc{full: "/" + string(svc.FullName()) + "/" + string(m.Name()), method: m, serverStream: m.IsStreamingServer()}
				if rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule); ok && rule != nil {
					switch p := rule.GetPattern().(type) {
					case *annotations.HttpRule_Get:
						r.verb, r.path = http.MethodGet, p.Get
					case *annotations.HttpRule_Put:
						r.verb, r.path = http.MethodPut, p.Put
					case *annotations.HttpRule_Post:
						r.verb, r.path = http.MethodPost, p.Post
					case *annotations.HttpRule_Delete:
						r.verb, r.path = http.MethodDelete, p.Delete
					case *annotations.HttpRule_Patch:
						r.verb, r.path = http.MethodPatch, p.Patch
					}
					r.path = variable.ReplaceAllString(r.path, "x")
				}
				out = append(out, r)
			}
		}
		return true
	})
	slices.SortFunc(out, func(a, b rpc) int { return strings.Compare(a.full, b.full) })
	return out
}

// invoke calls a method with an empty request.
func (w *world) invoke(conn *grpc.ClientConn, r rpc) error {
	in, out := dynamicpb.NewMessage(r.method.Input()), dynamicpb.NewMessage(r.method.Output())
	if !r.serverStream {
		return conn.Invoke(w.ctx(), r.full, in, out)
	}
	s, err := conn.NewStream(w.ctx(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, r.full)
	if err != nil {
		return err
	}
	if !r.method.IsStreamingClient() { // of one message, and not of none
		_ = s.SendMsg(in)
	}
	_ = s.CloseSend()
	return s.RecvMsg(out)
}

// TestEveryMethodIsServedAndNeedsAToken walks the schema: whatever is declared is there, over gRPC and where its annotation
// says, and nobody gets in without a token.
func TestEveryMethodIsServedAndNeedsAToken(t *testing.T) {
	w := newWorld(t)
	all := rpcs()
	if len(all) < 45 {
		t.Fatalf("only %d methods were found", len(all))
	}
	revoked := w.newToken(w.admin, "", "gone", "user")
	id := w.call(revoked, http.MethodGet, "/berm/v1/whoami", nil).want(http.StatusOK).text("tokenId")
	w.call(w.admin, http.MethodDelete, "/berm/v1/tokens/"+id, nil).want(http.StatusOK)
	bad := map[string]string{"no token": "", "a wrong one": "berm_x", "a revoked one": revoked, "one of somebody else's making": strings.Replace(w.user, "berm_", "berm_A", 1)}
	conn := w.dial(w.addr, w.user)
	for name, token := range bad {
		for _, addr := range []string{w.addr, w.native} {
			anonymous := w.dial(addr, token)
			for _, r := range all {
				if err := w.invoke(anonymous, r); status.Code(err) != codes.Unauthenticated || reasonOf(err) != "TOKEN_INVALID" {
					t.Errorf("%s: %s: %v", r.full, name, err)
				}
			}
		}
		for _, r := range all {
			if r.path == "" {
				continue
			}
			a := w.call(token, r.verb, r.path, nil)
			if a.status != http.StatusUnauthorized || a.body["code"] != 16.0 || a.reason() != "TOKEN_INVALID" || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: %s: %d %s", r.verb, r.path, name, a.status, a.raw)
			}
		}
	}
	for _, r := range all {
		if err := w.invoke(conn, r); reasonOf(err) == "CWSANDBOX_NOT_IMPLEMENTED" && strings.Contains(err.Error(), "there is no method") || err != nil && reasonOf(err) == "" {
			t.Errorf("%s is not served: %v", r.full, err)
		}
		if r.path == "" {
			continue
		}
		if a := w.call(w.user, r.verb, r.path, nil); a.status == http.StatusMethodNotAllowed || a.reason() == "PATH_NOT_FOUND" {
			t.Errorf("%s %s is not served: %s", r.verb, r.path, a.raw)
		}
	}
}

func TestAuthorizationHeader(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		values []string
		status int
	}{
		"as documented":     {[]string{"Bearer " + w.user}, http.StatusOK},
		"in small letters":  {[]string{"bearer " + w.user}, http.StatusOK},
		"another scheme":    {[]string{"Basic " + w.user}, http.StatusUnauthorized},
		"no scheme":         {[]string{w.user}, http.StatusUnauthorized},
		"twice":             {[]string{"Bearer " + w.user, "Bearer " + w.user}, http.StatusUnauthorized},
		"empty":             {[]string{"Bearer "}, http.StatusUnauthorized},
		"a very long token": {[]string{"Bearer " + strings.Repeat("x", 8<<10)}, http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/berm/v1/whoami", nil)
		w.must(err)
		r.Header["Authorization"] = c.values
		// Neither of these says anything to us.
		r.Host = "internal.example"
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		r.Header.Set("X-Forwarded-Host", "admin")
		r.Header.Set("Grpc-Metadata-Authorization", "Bearer "+w.admin)
		resp, err := w.http.Do(r)
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	// A token in the URL is no token.
	w.call("", http.MethodGet, "/berm/v1/whoami?access_token="+w.user, nil).want(http.StatusUnauthorized)
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	w.call(w.user, http.MethodPost, "/v1beta2/sandbox/profile-templates", object{"profileTemplate": object{"displayName": "x", "spec": object{}}}).
		want(http.StatusForbidden, "ROLE_MISSING", "admin")
	admin := w.newToken(w.admin, "", "boss", "admin")
	w.call(admin, http.MethodPost, "/berm/v1/orgs", object{"name": "mine"}).want(http.StatusForbidden, "operator")
	w.call(admin, http.MethodPost, "/berm/v1/tokens", object{"name": "up", "role": "operator"}).want(http.StatusForbidden)
	who := w.call(admin, http.MethodGet, "/berm/v1/whoami", nil).want(http.StatusOK)
	if who.text("actor") != "token:boss" || who.text("role") != "admin" || who.text("org") != "default" {
		t.Errorf("who %s", who.raw)
	}
}

// TestRevocationTakesEffectAtOnce: a token that was just used is refused in the next call.
func TestRevocationTakesEffectAtOnce(t *testing.T) {
	w := newWorld(t)
	token := w.newToken(w.admin, "", "short", "user")
	id := w.call(token, http.MethodGet, "/berm/v1/whoami", nil).want(http.StatusOK).text("tokenId")
	list := w.call(w.admin, http.MethodGet, "/berm/v1/tokens", nil).want(http.StatusOK)
	if strings.Contains(list.raw, token) || !strings.Contains(list.raw, id) {
		t.Errorf("tokens %s", list.raw)
	}
	w.call(w.admin, http.MethodDelete, "/berm/v1/tokens/"+id, nil).want(http.StatusOK)
	w.call(token, http.MethodGet, "/berm/v1/whoami", nil).want(http.StatusUnauthorized)
}
