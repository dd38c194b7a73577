package server_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/tree"
)

// TestNothingIsIgnored is the table of bad input over REST. Each is an error that says what, where and what to do, in the body
// of a Status, and changes nothing.
func TestNothingIsIgnored(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	const (
		sandboxes = "/v1beta2/sandboxes"
		profiles  = "/v1beta2/sandbox/profile-templates"
		runners   = "/v1beta2/sandbox/managed-runners"
		plan      = "/berm/v1/plan"
		zone      = "/berm/v1/zones/local"
	)
	profile := func(spec string) string {
		return `{"profileTemplate": {"displayName": "p", "spec": ` + spec + `}}`
	}
	post, get, patch, put, del := http.MethodPost, http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		reason             string
		says               []string
	}{
		// JSON, through the gateway and by hand.
		"unknown field":                {post, sandboxes, `{"containerImag": "x"}`, 400, "FIELD_UNKNOWN", []string{"containerImag", `did you mean \"containerImage\"`}},
		"unknown field, snake":         {post, sandboxes, `{"container_imag": "x"}`, 400, "FIELD_UNKNOWN", []string{`did you mean \"container_image\"`}},
		"unknown field, nested":        {post, plan, `{"request": {"resources": {"cpus": "1"}}}`, 400, "FIELD_UNKNOWN", []string{"request.resources.cpus", `did you mean \"cpu\"`}},
		"unknown field in a profile":   {post, profiles, profile(`{"resourceDefaults": {"cpuLimt": "1"}}`), 400, "FIELD_UNKNOWN", []string{"profile_template.spec.resource_defaults.cpuLimt", "cpuLimit"}},
		"unknown field in a zone":      {put, zone, `{"zone": {"defaults": {"tag": []}}}`, 400, "FIELD_UNKNOWN", []string{"zone.defaults.tag", "tags"}},
		"unknown field in an override": {patch, runners + "/r1", `{"runner": {"profileBindings": [{"profileTemplateId": "ID", "isDefault": true, "overridesJson": "{\"nodeSelecto\": {}}"}]}}`, 400, "FIELD_UNKNOWN", []string{"profile_bindings[0].overrides_json", "nodeSelector"}},
		"unknown beside the object":    {post, profiles, `{"profile": {}}`, 400, "", []string{"profile_template", "must be given"}},
		"no object":                    {post, profiles, `{}`, 400, "FIELD_INVALID", []string{"profile_template", "must be given"}},
		"duplicate key":                {post, sandboxes, `{"command": "a", "command": "b"}`, 400, "SYNTAX", []string{"command", "twice"}},
		"duplicate key by spelling":    {post, sandboxes, `{"containerImage": "a", "container_image": "b"}`, 400, "FIELD_INVALID", []string{"container_image", "twice"}},
		"duplicate key in a profile":   {post, profiles, profile(`{"containerImage": "a", "containerImage": "b"}`), 400, "SYNTAX", []string{"twice"}},
		"trailing garbage":             {post, sandboxes, `{} {}`, 400, "SYNTAX", []string{"line 1, column 4"}},
		"trailing garbage, by hand":    {post, profiles, profile(`{}`) + "x", 400, "SYNTAX", []string{"end of the text"}},
		"truncated":                    {post, sandboxes, `{"command": "a"`, 400, "SYNTAX", nil},
		"a list":                       {post, profiles, `[]`, 400, "SYNTAX", []string{"a list"}},
		"not JSON":                     {put, zone, `zone: {}`, 400, "SYNTAX", nil},
		"wrong type":                   {post, sandboxes, `{"args": "x"}`, 400, "FIELD_INVALID", []string{"args", "expected a list"}},
		"wrong type in a profile":      {post, profiles, profile(`{"tags": "x"}`), 400, "FIELD_INVALID", []string{"profile_template.spec.tags"}},
		"all at once":                  {post, profiles, `{"profileTemplate": {"displayName": 7, "descriptio": "", "spec": {"tags": 1, "x": 2}}}`, 400, "FIELD_INVALID", []string{"display_name", "descriptio", "spec.tags", "spec.x"}},
		"not UTF-8":                    {post, sandboxes, "{\"command\": \"\xff\"}", 400, "SYNTAX", []string{"UTF-8"}},
		"too deep":                     {put, zone, `{"zone": {"defaults": {"pod": {"spec": {"a": ` + strings.Repeat("[", tree.MaxDepth) + strings.Repeat("]", tree.MaxDepth) + `}}}}}`, 400, "", nil},
		"ten megabytes":                {post, profiles, `{"profileTemplate": {"description": "` + strings.Repeat("x", 10<<20) + `"}}`, 400, "LIMIT_EXCEEDED", []string{"1048576"}},
		"body over the limit":          {post, sandboxes, `{"command": "` + strings.Repeat("x", 49<<20) + `"}`, 413, "LIMIT_EXCEEDED", []string{"50331648"}},
		"large and misspelt":           {post, sandboxes, `{"commandx": "` + strings.Repeat("x", 2<<20) + `"}`, 400, "FIELD_UNKNOWN", []string{"line 1, column 2", `did you mean \"command\"`}},
		"large and given twice":        {post, sandboxes, `{"command": "a", "args": ["` + strings.Repeat("x", 2<<20) + `"], "command": "b"}`, 400, "SYNTAX", []string{"command", "twice"}},
		"large and garbage behind":     {post, sandboxes + "/" + id + "/files", `{"filepath": "/tmp/x", "fileContents": "` + strings.Repeat("x", 2<<20) + `"} x`, 400, "SYNTAX", []string{"column 2097", "end of the text"}},
		"large and cut":                {post, sandboxes + "/" + id + "/files", `{"filepath": "/tmp/x", "fileContents": "` + strings.Repeat("x", 2<<20), 400, "SYNTAX", []string{"the string has no end"}},
		"large and no base64":          {post, sandboxes + "/" + id + "/files", `{"filepath": "/tmp/x", "fileContents": "` + strings.Repeat("!", 2<<20) + `"}`, 400, "FIELD_INVALID", []string{"file_contents", "base64"}},
		"large and of the wrong type":  {post, sandboxes + "/" + id + "/files", `{"filepath": 7, "fileContents": "` + strings.Repeat("x", 2<<20) + `"}`, 400, "FIELD_INVALID", []string{"filepath", "expected a string"}},
		"large and deep":               {post, sandboxes, strings.Repeat("[", 2<<20), 400, "SYNTAX", []string{"nested deeper than 64"}},
		"large and of many values":     {post, sandboxes, `{"args": [` + strings.Repeat("1,", 1<<20) + `1]}`, 400, "SYNTAX", []string{"more than 100000 values"}},

		// Quantities and other nonsense.
		"1e9Gi":               {post, sandboxes, `{"resources": {"cpu": "1", "memory": "1e9Gi"}}`, 400, "CWSANDBOX_INVALID_REQUEST", []string{"1e9Gi"}},
		"negative":            {post, sandboxes, `{"resources": {"cpu": "-1", "memory": "1Gi"}}`, 400, "CWSANDBOX_INVALID_REQUEST", []string{"-1"}},
		"NaN":                 {post, sandboxes, `{"resources": {"cpu": "NaN"}}`, 400, "CWSANDBOX_INVALID_REQUEST", []string{"NaN"}},
		"NaN as a number":     {post, sandboxes, `{"maxLifetimeSeconds": NaN}`, 400, "SYNTAX", nil},
		"huge integer":        {post, sandboxes, `{"maxLifetimeSeconds": 99999999999}`, 400, "FIELD_INVALID", []string{"max_lifetime_seconds"}},
		"request above limit": {post, sandboxes, `{"resourceRequests": {"cpu": "2"}, "resourceLimits": {"cpu": "1"}}`, 400, "CWSANDBOX_INVALID_REQUEST", nil},
		"limits alone":        {post, sandboxes, `{"resourceLimits": {"cpu": "1"}}`, 400, "CWSANDBOX_INVALID_REQUEST", []string{"resource_requests"}},
		"unknown profile":     {post, sandboxes, `{"profileNames": ["nope"]}`, 404, "CWSANDBOX_PROFILE_NOT_FOUND", []string{"nope"}},
		"unknown runner":      {post, sandboxes, `{"runnerIds": ["nope"]}`, 404, "CWSANDBOX_RUNNER_NOT_FOUND", []string{"nope"}},
		"no such egress mode": {post, sandboxes, `{"network": {"egressMode": "internet"}}`, 400, "CWSANDBOX_NO_SUITABLE_RUNNER", []string{"internet"}},

		// Query strings and paths.
		"unknown parameter":           {get, sandboxes + "?page_siz=1", "", 400, "FIELD_UNKNOWN", []string{"page_siz", "page_size"}},
		"unknown parameter, by hand":  {get, profiles + "?pageSiz=1", "", 400, "FIELD_UNKNOWN", []string{"pageSize"}},
		"parameter beside a body":     {post, sandboxes + "?dryRun=true", `{}`, 400, "FIELD_UNKNOWN", []string{"dryRun"}},
		"parameter of the path":       {get, sandboxes + "/" + id + "?sandbox_id=other", "", 400, "FIELD_UNKNOWN", []string{"sandbox_id"}},
		"parameter twice":             {get, sandboxes + "?page_size=1&pageSize=2", "", 400, "FIELD_INVALID", []string{"more than once"}},
		"parameter of the wrong type": {get, sandboxes + "?page_size=many", "", 400, "FIELD_INVALID", []string{"page_size"}},
		"page size by hand":           {get, runners + "?page_size=1.5", "", 400, "FIELD_INVALID", []string{"page_size"}},
		"negative page":               {get, runners + "?page_size=-1", "", 400, "FIELD_INVALID", []string{"page_size"}},
		"no such status":              {get, sandboxes + "?status=SANDBOX_STATUS_WALKING", "", 400, "FIELD_INVALID", []string{"status"}},
		"forged page token":           {get, sandboxes + "?page_token=AAAA", "", 400, "PAGE_TOKEN_INVALID", nil},
		"broken encoding":             {get, sandboxes + "?tags=%zz", "", 400, "SYNTAX", nil},
		"body where none belongs":     {get, sandboxes + "/" + id, `{"x": 1}`, 400, "CWSANDBOX_INVALID_REQUEST", []string{"GET"}},
		"body against the path":       {post, sandboxes + "/" + id + "/stop", `{"sandboxId": "other"}`, 400, "FIELD_INVALID", []string{"sandbox_id", "other"}},
		"id against the path":         {patch, profiles + "/x", `{"id": "y", "profileTemplate": {}}`, 400, "FIELD_INVALID", []string{"id"}},
		"wrong method":                {put, sandboxes, `{}`, 405, "METHOD_NOT_ALLOWED", []string{"GET, POST"}},
		"wrong method, by hand":       {put, profiles, `{}`, 405, "METHOD_NOT_ALLOWED", []string{"GET, POST"}},
		"wrong method on an id":       {post, zone, `{}`, 405, "METHOD_NOT_ALLOWED", []string{"DELETE, GET, PUT"}},
		"no such path":                {get, "/v1beta2/nothing", "", 404, "PATH_NOT_FOUND", nil},
		"no such path, by hand":       {get, "/v1beta2/sandbox/nothing", "", 404, "PATH_NOT_FOUND", nil},
		"no such path of ours":        {get, "/berm/v1/nothing", "", 404, "PATH_NOT_FOUND", nil},
		"no such path at all":         {get, "/admin.php", "", 404, "PATH_NOT_FOUND", nil},
		"no such verb":                {post, runners + "/r1:explode", "", 404, "PATH_NOT_FOUND", nil},

		// Output-only fields and masks.
		"id in a create":             {post, profiles, `{"profileTemplate": {"id": "x", "displayName": "p", "spec": {}}}`, 400, "FIELD_OUTPUT_ONLY", []string{"profile_template.id"}},
		"time in a create":           {post, profiles, `{"profileTemplate": {"createdAt": "2026-01-01T00:00:00Z", "displayName": "p", "spec": {}}}`, 400, "FIELD_OUTPUT_ONLY", []string{"created_at"}},
		"status in a create":         {post, runners, `{"runnerId": "r9", "runner": {"connectionStatus": "RUNNER_CONNECTION_STATUS_CONNECTED"}}`, 400, "FIELD_OUTPUT_ONLY", []string{"connection_status"}},
		"revision in an update":      {patch, profiles + "/default", `{"profileTemplate": {"revision": 7}}`, 400, "FIELD_OUTPUT_ONLY", []string{"revision"}},
		"name in a zone":             {put, zone, `{"zone": {"name": "local"}}`, 400, "FIELD_OUTPUT_ONLY", []string{"zone.name"}},
		"mask of nothing known":      {patch, profiles + "/default", `{"profileTemplate": {}, "updateMask": "descriptionn"}`, 400, "MASK_INVALID", []string{"descriptionn", `\"description\"`}},
		"mask of what cannot change": {patch, profiles + "/default", `{"profileTemplate": {}, "updateMask": "displayName"}`, 400, "FIELD_IMMUTABLE", []string{"display"}},
		"mask of a runner's id":      {patch, runners + "/r1", `{"runner": {}, "updateMask": "identity.runner_id"}`, 400, "FIELD_IMMUTABLE", []string{"runner_id"}},
		"mask twice":                 {patch, profiles + "/default?updateMask=description", `{"profileTemplate": {}, "updateMask": "description"}`, 400, "FIELD_INVALID", []string{"update_mask"}},
		"mask as a list":             {patch, profiles + "/default", `{"profileTemplate": {}, "updateMask": ["description"]}`, 400, "FIELD_INVALID", []string{"update_mask", "a string"}},
		"mask in a create":           {post, profiles, `{"profileTemplate": {"displayName": "p", "spec": {}}, "updateMask": "spec"}`, 400, "FIELD_INVALID", []string{"update_mask"}},
		"no spec":                    {post, profiles, `{"profileTemplate": {"displayName": "p"}}`, 400, "FIELD_INVALID", []string{"spec", "spec: {}"}},
		"spec removed":               {patch, profiles + "/default", `{"profileTemplate": {}, "updateMask": "spec"}`, 400, "FIELD_INVALID", []string{"spec"}},
		"null in a guardrail":        {post, profiles, profile(`{"guardrails": {"resources": {"maxCpu": null}}}`), 400, "FIELD_INVALID", []string{"guardrails"}},
		"two ids":                    {post, runners, `{"runnerId": "a", "runner": {"identity": {"runnerId": "b", "zone": "z", "clusterName": "c"}}}`, 400, "FIELD_INVALID", []string{"runner_id"}},
		"no default":                 {patch, runners + "/r1", `{"runner": {"profileBindings": [{"profileTemplateId": "ID"}]}}`, 400, "", []string{"default"}},
		"no bindings":                {patch, runners + "/r1", `{"runner": {"profileBindings": []}}`, 400, "", nil},
		"etag of another state":      {patch, profiles + "/default", `{"profileTemplate": {"description": "x", "etag": "old"}}`, 409, "ETAG_MISMATCH", nil},
		"delete of what is bound":    {del, profiles + "/default", "", 400, "PROFILE_BOUND", []string{"r1"}},
		"delete of a used zone":      {del, zone, "", 400, "ZONE_IN_USE", nil},
		"no such field to explain":   {get, "/berm/v1/sandboxes/" + id + "/explain?fieldPath=nope", "", 400, "FIELD_UNKNOWN", []string{"nope"}},
		"a token for no time":        {post, "/berm/v1/tokens", `{"name": "x", "role": "user", "expiresInSeconds": 0}`, 400, "FIELD_INVALID", []string{"expires_in_seconds"}},
		"no such role":               {post, "/berm/v1/tokens", `{"name": "x", "role": "root"}`, 400, "FIELD_INVALID", []string{"root"}},
		"an organization twice":      {post, "/berm/v1/orgs", `{"name": "default"}`, 409, "ORG_EXISTS", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var body any
			if c.body != "" {
				body = strings.ReplaceAll(c.body, `"ID"`, `"`+w.profile+`"`)
			}
			a := w.call(w.admin, c.method, c.path, body)
			if a.status != c.status || c.reason != "" && a.reason() != c.reason || a.text("message") == "" || a.body["code"] == nil {
				t.Errorf("got %d %s: %.600s", a.status, a.reason(), a.raw)
			}
			for _, s := range c.says {
				if !strings.Contains(a.raw+a.header.Get("Allow"), s) {
					t.Errorf("it does not say %q: %.600s", s, a.raw)
				}
			}
			if a.header.Get("Content-Type") != "application/json" || a.header.Get("x-request-id") == "" {
				t.Errorf("headers %v", a.header)
			}
		})
	}
	if list := w.call(w.admin, http.MethodGet, sandboxes+"?includeStopped=true", nil); len(list.body["sandboxes"].([]any)) != 1 {
		t.Errorf("a refused request left something behind: %s", list.raw)
	}
	for _, path := range []string{profiles + "/default", runners + "/r1", zone} {
		if a := w.call(w.admin, http.MethodGet, path, nil); a.at("revision") != 1.0 {
			t.Errorf("a refused request changed %s: %s", path, a.raw)
		}
	}
}

// TestPathsAreNotRewritten: paths that a ServeMux would clean name files, and arrive as they were sent.
func TestPathsAreNotRewritten(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	for _, path := range []string{"%2Ftmp%2F..%2Fa", "%2Fa%2F%2Fb", "%2Fa%252Fb", "%2Fa%3Fb%23c", "/tmp/a", "%2F.%2Fx", "%2Fa;b"} {
		a := w.call(w.user, http.MethodGet, "/v1beta2/sandboxes/"+id+"/files/"+path, nil)
		if a.status == http.StatusMovedPermanently || a.reason() != "CWSANDBOX_FILE_NOT_FOUND" && a.reason() != "CWSANDBOX_INVALID_REQUEST" {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
	}
	for _, path := range []string{"/v1beta2/../readyz", "//v1beta2/sandboxes", "/v1beta2//sandboxes", "/v1beta2/./sandboxes", "/v1beta2/%73andboxes", "/%2e%2e/v1beta2/sandboxes"} {
		if a := w.call(w.user, http.MethodGet, path, nil); a.status != http.StatusNotFound && path != "/v1beta2/%73andboxes" {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
	}
}

// TestProbes need no token and say no in JSON.
func TestProbes(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/readyz", "/livez"} {
		w.call("", http.MethodGet, path, nil).want(http.StatusOK, "ok")
		w.call("", http.MethodPost, path, nil).want(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
	}
	w.call("", http.MethodGet, "/", nil).want(http.StatusNotFound, "PATH_NOT_FOUND")
	w.call("", http.MethodPost, "/v1beta2/sandboxes", "x", "Content-Type", "application/grpc").want(http.StatusUnsupportedMediaType, "HTTP/2")
	w.call("", http.MethodPost, "/v1beta2/sandboxes", "x", "Content-Type", "application/grpc-web+proto").want(http.StatusUnsupportedMediaType)
	ctx := t.Context()
	w.must(w.srv.Shutdown(ctx))
	rec := httptest.NewRecorder()
	w.srv.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "SHUTTING_DOWN") {
		t.Errorf("while shutting down: %d %s", rec.Code, rec.Body)
	}
}

// TestRawHTTP: requests that a client library would not send.
func TestRawHTTP(t *testing.T) {
	w := newWorld(t)
	for name, request := range map[string]string{
		"absolute form":         "GET http://evil.example/readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"length and chunks":     "POST /v1beta2/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":           "POST /v1beta2/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"two hosts":             "GET /v1beta2/sandboxes HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":               "GET /v1beta2/sandboxes HTTP/1.1\r\n\r\n",
		"a line break in a key": "GET /v1beta2/sandboxes HTTP/1.1\r\nHost: x\r\nX-A\r\n: b\r\n\r\n",
		"a space in the path":   "GET /v1beta2/sand boxes HTTP/1.1\r\nHost: x\r\n\r\n",
		"connect":               "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
	} {
		c, err := net.Dial("tcp", w.addr)
		w.must(err)
		_, err = c.Write([]byte(request))
		w.must(err)
		buf := make([]byte, 64)
		n, _ := c.Read(buf)
		c.Close()
		line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
		want := "HTTP/1.1 4"
		if name == "absolute form" {
			want = "HTTP/1.1 200"
		}
		if !strings.HasPrefix(line, want) {
			t.Errorf("%s: %q", name, line)
		}
	}
}
