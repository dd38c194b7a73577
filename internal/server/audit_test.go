package server_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/audit"
)

// TestAudit: what is called over REST and over gRPC is told of with the call that it was, verified, and exported.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	const profiles = "/v1beta2/sandbox/profile-templates"
	made := w.call(w.admin, http.MethodPost, profiles, object{"profileTemplate": object{"displayName": "agent", "spec": object{}}}, "User-Agent", "curl/8")
	id := made.want(http.StatusOK).text("id")
	w.call(w.user, http.MethodDelete, profiles+"/"+id, nil).want(http.StatusForbidden)
	w.call("nonsense", http.MethodGet, profiles+"?secret=s3cret", nil).want(http.StatusUnauthorized)
	sandbox := w.idle()
	if _, err := w.gateway().Stop(w.ctx(), &v1beta2pb.StopSandboxRequest{SandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}

	rows, _ := w.call(w.admin, http.MethodGet, "/berm/v1/audit?objectId="+id, nil).want(http.StatusOK).at("rows").([]any)
	if len(rows) != 1 {
		t.Fatalf("rows %v", rows)
	}
	row, _ := rows[0].(map[string]any)
	for path, want := range map[string]string{
		"actor": "token:admin", "method": "CreateProfile", "kind": "profile", "objectName": "agent", "outcome": "done", "userAgent": "curl/8",
		"requestId": made.header.Get("X-Request-Id"),
	} {
		if got := row[path]; got != want {
			t.Errorf("%s of the row is %v, want %q", path, got, want)
		}
	}
	if got, _ := row["address"].(string); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("address %v", got)
	}
	w.call(w.admin, http.MethodGet, "/berm/v1/audit?outcome=refused", nil).want(http.StatusOK, `"token:user"`, `"DeleteProfile"`, `"ROLE_MISSING"`)
	w.call(w.admin, http.MethodGet, "/berm/v1/audit?method=Stop", nil).want(http.StatusOK, sandbox, "grpc-go")
	w.call(w.admin, http.MethodGet, "/berm/v1/audit?method=Launch", nil).want(http.StatusOK, sandbox)
	installation := w.call(w.admin, http.MethodGet, "/berm/v1/audit?installation=true", nil).want(http.StatusOK, `"UNAUTHENTICATED"`, "GET "+profiles)
	if strings.Contains(installation.raw, "s3cret") || strings.Contains(installation.raw, "nonsense") {
		t.Errorf("a secret: %s", installation.raw)
	}
	w.call(w.user, http.MethodGet, "/berm/v1/audit", nil).want(http.StatusForbidden)
	w.call(w.admin, http.MethodGet, "/berm/v1/audit?since=yesterday", nil).want(http.StatusBadRequest)

	head := w.call(w.admin, http.MethodGet, "/berm/v1/audit:verify", nil).want(http.StatusOK).text("head")
	w.call(w.admin, http.MethodGet, "/berm/v1/audit:verify?head="+head, nil).want(http.StatusOK, `"badSeq":"0"`)
	other := strings.Repeat("0", 64) + head[strings.Index(head, "@"):]
	if bad := w.call(w.admin, http.MethodGet, "/berm/v1/audit:verify?head="+other, nil).want(http.StatusOK).text("bad"); bad == "" {
		t.Error("another head is not told of")
	}
	w.call(w.admin, http.MethodGet, "/berm/v1/audit:verify?head=x", nil).want(http.StatusBadRequest)

	if got, err := audit.VerifyExport(w.exported(), nil); err != nil || got.Bad != "" || got.Head.String() != head {
		t.Errorf("the export: %+v, %v", got, err)
	}
}

// exported returns an export, as the command line writes it.
func (w *world) exported() io.Reader {
	w.Helper()
	stream, err := bermv1rpc.NewAuditServiceClient(w.dial(w.addr, w.admin)).ExportAudit(w.ctx(), &bermv1.ExportAuditRequest{})
	w.must(err)
	var text bytes.Buffer
	out := audit.NewExporter(&text)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		w.must(err)
		if c := m.GetChain(); c != nil {
			w.must(out.Begin(c.GetName(), c.GetAnchor(), c.GetHead()))
		}
		for _, r := range m.GetRecords() {
			w.must(out.Row(r.GetHash(), r.GetRecord()))
		}
	}
	w.must(out.Flush())
	return &text
}
