package server_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/backend"
)

// TestLifeOverGRPC leads one sandbox through every unary method, as a published client does.
func TestLifeOverGRPC(t *testing.T) {
	w := newWorld(t)
	for name, addr := range map[string]string{"shared": w.addr, "native": w.native} {
		t.Run(name, func(t *testing.T) {
			c := v1beta2rpc.NewGatewayServiceClient(w.dial(addr, w.user))
			ctx := t.Context()
			started, err := c.Start(ctx, &v1beta2pb.StartSandboxRequest{
				Command: "/bin/sh", Args: []string{"-c", `trap "exit 0" TERM INT; sleep infinity & wait`}, Tags: []string{name},
				ContainerImage: "host", MountedFiles: []*v1beta2pb.MountedFile{{MountPath: "/workspace/in", FileContent: []byte("hello")}},
			})
			w.must(err)
			id := started.GetSandboxId()
			if started.GetProfileId() != "default" || started.GetRunnerId() != "r1" || started.GetAppliedEgressMode() != "none" || started.GetSandboxStatus() == 0 {
				t.Errorf("started %v", started)
			}
			w.running(id)
			got, err := c.Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: id})
			w.must(err)
			if got.GetSandboxStatus() != v1beta2pb.SandboxStatus_SANDBOX_STATUS_RUNNING || got.ExitCode != nil || got.GetStartedAtTime() == nil ||
				got.GetAppliedEgressMode() != "none" || got.GetCurrentResourceUsage().GetCpuMillicoresUsed() == 0 {
				t.Errorf("got %v", got)
			}
			listed, err := c.List(ctx, &v1beta2pb.ListSandboxesRequest{Tags: []string{name}, Status: v1beta2pb.SandboxStatus_SANDBOX_STATUS_RUNNING})
			w.must(err)
			if len(listed.GetSandboxes()) != 1 || listed.GetSandboxes()[0].GetSandboxId() != id {
				t.Errorf("listed %v", listed)
			}
			ran, err := c.Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"cat"}, Args: []string{"/workspace/in"}})
			w.must(err)
			if r := ran.GetResult(); string(r.GetStdout()) != "hello" || r.GetStdoutBytesProduced() != 5 || r.GetExitCode() != 0 {
				t.Errorf("ran %v", r)
			}
			added, err := c.AddFile(ctx, &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: "/tmp/empty"})
			w.must(err)
			read, err := c.RetrieveFile(ctx, &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: id, Filepath: "/tmp/empty"})
			w.must(err)
			if !added.GetSuccess() || !read.GetSuccess() || len(read.GetFileContents()) != 0 {
				t.Errorf("added %v, read %v", added, read)
			}
			stopped, err := c.Stop(ctx, &v1beta2pb.StopSandboxRequest{SandboxId: id, GracefulShutdownSeconds: 10})
			w.must(err)
			if !stopped.GetSuccess() {
				t.Errorf("stopped %v", stopped)
			}
			deleted, err := c.Delete(ctx, &v1beta2pb.DeleteSandboxRequest{SandboxId: id})
			w.must(err)
			got, err = c.Get(ctx, &v1beta2pb.GetSandboxRequest{SandboxId: id})
			w.must(err)
			if !deleted.GetSuccess() || got.GetSandboxStatus() != v1beta2pb.SandboxStatus_SANDBOX_STATUS_COMPLETED || got.ExitCode == nil || got.GetExitCode() != 0 {
				t.Errorf("deleted %v, then %v", deleted, got)
			}
			_, err = c.Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}})
			if status.Code(err) != codes.FailedPrecondition || reasonOf(err) != "CWSANDBOX_SANDBOX_NOT_RUNNING" {
				t.Errorf("exec after the end: %v", err)
			}
			for _, again := range []func() error{
				func() error { _, err := c.Delete(ctx, &v1beta2pb.DeleteSandboxRequest{SandboxId: id}); return err },
				func() error { _, err := c.Stop(ctx, &v1beta2pb.StopSandboxRequest{SandboxId: id}); return err },
			} {
				if err := again(); err != nil {
					t.Errorf("ending what has ended: %v", err)
				}
			}
			listed, err = c.List(ctx, &v1beta2pb.ListSandboxesRequest{Tags: []string{name}})
			w.must(err)
			ended, err := c.List(ctx, &v1beta2pb.ListSandboxesRequest{Tags: []string{name}, Status: v1beta2pb.SandboxStatus_SANDBOX_STATUS_COMPLETED})
			w.must(err)
			if len(listed.GetSandboxes()) != 0 || len(ended.GetSandboxes()) != 1 {
				t.Errorf("listed %v, with a final status %v", listed, ended)
			}
		})
	}
}

func TestLifeOverREST(t *testing.T) {
	w := newWorld(t)
	started := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", object{
		"command": "sleep", "args": []string{"infinity"}, "resources": object{"cpu": "500m", "memory": "1Gi"},
	}).want(http.StatusOK)
	id := started.text("sandboxId")
	if started.text("requestedResources", "cpu") != "500m" || started.text("requestedResources", "memory") != "1Gi" {
		t.Errorf("what was asked for came back as %s", started.raw)
	}
	if started.header.Get("x-request-id") == "" || started.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", started.header)
	}
	w.running(id)
	at := "/v1beta2/sandboxes/" + id
	got := w.call(w.user, http.MethodGet, at, nil).want(http.StatusOK)
	if got.text("sandboxStatus") != "SANDBOX_STATUS_RUNNING" || got.at("exitCode") != nil || got.text("profileId") != "default" {
		t.Errorf("got %s", got.raw)
	}
	ran := w.call(w.user, http.MethodPost, at+"/exec", object{"command": []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}).want(http.StatusOK)
	if ran.at("result", "exitCode") != 3.0 || ran.text("result", "stdout") != b64("out\n") || ran.text("result", "stderr") != b64("err\n") {
		t.Errorf("ran %s", ran.raw)
	}
	path := "/tmp/a b%2Fc:x"
	w.call(w.user, http.MethodPost, at+"/files", object{"filepath": path, "fileContents": b64("text")}).want(http.StatusOK, `"success":`)
	read := w.call(w.user, http.MethodGet, at+"/files/"+url.PathEscape(path), nil).want(http.StatusOK)
	if read.text("fileContents") != b64("text") {
		t.Errorf("read %s", read.raw)
	}
	w.call(w.user, http.MethodGet, at+"/files/%2Ftmp%2Fnone", nil).want(http.StatusNotFound, `"filepath":`, "/tmp/none", "CWSANDBOX_FILE_NOT_FOUND")
	w.call(w.user, http.MethodPost, at+"/stop", nil).want(http.StatusOK, `"success":`)
	w.call(w.user, http.MethodDelete, at, nil).want(http.StatusOK)
	got = w.call(w.user, http.MethodGet, at, nil).want(http.StatusOK)
	if got.text("sandboxStatus") != "SANDBOX_STATUS_COMPLETED" || got.at("exitCode") != 137.0 {
		t.Errorf("after the end %s", got.raw)
	}
	list := w.call(w.user, http.MethodGet, "/v1beta2/sandboxes?includeStopped=true&page_size=1", nil).want(http.StatusOK)
	if all, _ := list.body["sandboxes"].([]any); len(all) != 1 || list.text("nextPageToken") != "" {
		t.Errorf("list %s", list.raw)
	}
	if empty := w.call(w.user, http.MethodGet, "/v1beta2/sandboxes", nil); empty.at("sandboxes") == nil {
		t.Errorf("an empty list is not there: %s", empty.raw)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestExecOutput(t *testing.T) {
	w := newWorld(t)
	c, id := w.gateway(), w.idle()
	run := func(r *v1beta2pb.ExecSandboxRequest) (*v1beta2pb.ExecResponse, error) {
		r.SandboxId = id
		got, err := c.Exec(t.Context(), r)
		return got.GetResult(), err
	}
	zeros := []string{"head", "-c", "3000", "/dev/zero"}
	got, err := run(&v1beta2pb.ExecSandboxRequest{Command: zeros, BufferedMaxKib: 1})
	w.must(err)
	if len(got.GetStdout()) != 1024 || !got.GetStdoutTruncated() || got.GetStdoutBytesProduced() != 3000 || got.GetStderrTruncated() {
		t.Errorf("cut: %d bytes, %v", len(got.GetStdout()), got.GetStdoutBytesProduced())
	}
	got, err = run(&v1beta2pb.ExecSandboxRequest{Command: zeros, OutputHandling: v1beta2pb.OutputPolicy_OUTPUT_POLICY_DISCARD})
	w.must(err)
	if len(got.GetStdout()) != 0 || !got.GetStdoutTruncated() || got.GetStdoutBytesProduced() != 3000 {
		t.Errorf("discarded: %v", got)
	}
	got, err = run(&v1beta2pb.ExecSandboxRequest{Command: zeros, OutputHandling: v1beta2pb.OutputPolicy_OUTPUT_POLICY_STREAM})
	w.must(err)
	if len(got.GetStdout()) != 3000 || got.GetStdoutTruncated() {
		t.Errorf("a unary call with the policy of streams: %v", got)
	}
	got, err = run(&v1beta2pb.ExecSandboxRequest{Command: []string{"sh", "-c", "kill -9 $$"}})
	w.must(err)
	if got.GetExitCode() != 137 {
		t.Errorf("a signal: %v", got)
	}
	for name, c := range map[string]struct {
		in     *v1beta2pb.ExecSandboxRequest
		code   codes.Code
		reason string
	}{
		"no command":        {&v1beta2pb.ExecSandboxRequest{}, codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"missing command":   {&v1beta2pb.ExecSandboxRequest{Command: []string{"no-such-program"}}, codes.FailedPrecondition, "CWSANDBOX_COMMAND_NOT_FOUND"},
		"too much to keep":  {&v1beta2pb.ExecSandboxRequest{Command: zeros, BufferedMaxKib: 1 << 20}, codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"no such policy":    {&v1beta2pb.ExecSandboxRequest{Command: zeros, OutputHandling: 9}, codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"negative timeout":  {&v1beta2pb.ExecSandboxRequest{Command: zeros, MaxTimeoutSeconds: -1}, codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"timeout too long":  {&v1beta2pb.ExecSandboxRequest{Command: zeros, MaxTimeoutSeconds: 1 << 30}, codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"killed in a while": {&v1beta2pb.ExecSandboxRequest{Command: []string{"sleep", "infinity"}, MaxTimeoutSeconds: 1}, codes.DeadlineExceeded, "CWSANDBOX_COMMAND_TIMEOUT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(c.in)
			if status.Code(err) != c.code || reasonOf(err) != c.reason {
				t.Errorf("got %v", err)
			}
		})
	}
	w.idleProcesses(id, 0)
}

// idleProcesses waits until as many commands run in a sandbox; the fake backend reports their number as usage.
func (w *world) idleProcesses(id string, want int64) {
	w.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		var have int64
		for _, b := range w.fakes {
			if u, err := b.Usage(w.ctx(), id); err == nil {
				have = u.PIDs
			}
		}
		if have == want {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d commands still run, want %d", have, want)
		}
	}
}

func TestFileErrors(t *testing.T) {
	w := newWorld(t)
	c, id := w.gateway(), w.idle()
	read := func(path string) error {
		_, err := c.RetrieveFile(t.Context(), &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: id, Filepath: path})
		return err
	}
	write := func(path string, size int) error {
		_, err := c.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: path, FileContents: make([]byte, size)})
		return err
	}
	for name, f := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"read missing":      {read("/tmp/none"), codes.NotFound, "CWSANDBOX_FILE_NOT_FOUND"},
		"read directory":    {read("/tmp"), codes.FailedPrecondition, "CWSANDBOX_FILE_IS_DIRECTORY"},
		"relative":          {read("tmp/x"), codes.InvalidArgument, "CWSANDBOX_INVALID_REQUEST"},
		"write below /proc": {write("/proc/x", 1), codes.FailedPrecondition, "CWSANDBOX_FILE_PERMISSION_DENIED"},
		"write too much":    {write("/tmp/big", backend.MaxUnaryFile+1), codes.FailedPrecondition, "CWSANDBOX_FILE_TOO_LARGE"},
	} {
		if status.Code(f.err) != f.code || reasonOf(f.err) != f.reason || metaOf(f.err)["filepath"] == "" || metaOf(f.err)["sandbox_id"] != id {
			t.Errorf("%s: %v %v", name, f.err, metaOf(f.err))
		}
	}
	if err := write("/tmp/full", backend.MaxUnaryFile); err != nil {
		t.Errorf("the largest file: %v", err)
	}
	if err := read("/tmp/full"); err != nil {
		t.Errorf("reading it: %v", err)
	}
	big := metaOf(write("/tmp/big", 2*backend.MaxUnaryFile))
	if big["size_bytes"] != "67108864" || big["max_size_bytes"] != "33554432" {
		t.Errorf("a file over the limit has %v", big)
	}
	if _, err := c.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{SandboxId: "none", Filepath: "/x", FileContents: make([]byte, backend.MaxUnaryFile+1)}); reasonOf(err) != "CWSANDBOX_SANDBOX_NOT_FOUND" {
		t.Errorf("a large file into nothing: %v", err)
	}
}

// TestPause: both transports, and what Get says.
func TestPause(t *testing.T) {
	w := newWorld(t)
	c, id := w.gateway(), w.idle()
	state := func() string {
		t.Helper()
		got, err := c.Get(t.Context(), &v1beta2pb.GetSandboxRequest{SandboxId: id})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(got.GetSandboxStatus().String(), "SANDBOX_STATUS_")
	}
	if r, err := c.Pause(t.Context(), &v1beta2pb.PauseSandboxRequest{SandboxId: id}); err != nil || !r.GetSuccess() || state() != "PAUSED" {
		t.Fatalf("%v, %v, then %s", r, err, state())
	}
	_, err := c.Exec(t.Context(), &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}})
	if status.Code(err) != codes.FailedPrecondition || reasonOf(err) != "CWSANDBOX_SANDBOX_NOT_RUNNING" || metaOf(err)["status"] != "PAUSED" {
		t.Errorf("exec in a paused sandbox: %v %v", err, metaOf(err))
	}
	if r := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes/"+id+"/resume", object{}); r.body["success"] != true || state() != "RUNNING" {
		t.Errorf("%v, then %s", r.body, state())
	}
	w.call(w.user, http.MethodPost, "/v1beta2/sandboxes/none/pause", object{}).want(http.StatusNotFound, "CWSANDBOX_SANDBOX_NOT_FOUND")
	if _, err := c.Resume(t.Context(), &v1beta2pb.ResumeSandboxRequest{SandboxId: id, MaxTimeoutSeconds: -1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a negative timeout: %v", err)
	}
}

// TestLater: what comes later says so, by name, over both transports.
func TestLater(t *testing.T) {
	w := newWorld(t)
	conn, ctx := w.dial(w.addr, w.user), t.Context()
	g := v1beta2rpc.NewGatewayServiceClient(conn)
	calls := map[string]func() error{
		"Raw": func() error { _, err := g.Raw(ctx, &v1beta2pb.RawSandboxRequest{}); return err },
		"GetFileSystemSnapshot": func() error {
			_, err := g.GetFileSystemSnapshot(ctx, &v1beta2pb.GetFileSystemSnapshotRequest{})
			return err
		},
		"file system snapshots": func() error {
			_, err := g.Stop(ctx, &v1beta2pb.StopSandboxRequest{FileSystemSnapshotOnStop: true})
			return err
		},
		"volumes": func() error {
			_, err := g.List(ctx, &v1beta2pb.ListSandboxesRequest{VolumeIds: []string{"v"}})
			return err
		},
		"ObjectStorageWIFConfig": func() error {
			_, err := g.GetObjectStorageWIFConfig(ctx, &v1beta2pb.GetObjectStorageWIFConfigRequest{})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); status.Code(err) != codes.Unimplemented || reasonOf(err) != "CWSANDBOX_NOT_IMPLEMENTED" || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.call(w.user, http.MethodPost, "/v1beta2/sandboxes/x/raw", nil).want(http.StatusNotImplemented, "CWSANDBOX_NOT_IMPLEMENTED", "Raw")
	refused := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", object{
		"s3Mount": object{"bucket": "b"}, "volumes": []object{{"volumeId": "v"}},
	}).want(http.StatusNotImplemented, "s3_mount", "volumes")
	if refused.reason() != "CWSANDBOX_NOT_IMPLEMENTED" {
		t.Errorf("reason %s", refused.reason())
	}
	if n := len(w.call(w.user, http.MethodGet, "/v1beta2/sandboxes?includeStopped=true", nil).body["sandboxes"].([]any)); n != 0 {
		t.Errorf("%d sandboxes were left behind", n)
	}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t, "east=e", "west=w")
	list := w.call(w.user, http.MethodGet, "/v1beta2/runners?view=RUNNER_VIEW_FULL&page_size=1", nil).want(http.StatusOK)
	runners := list.body["runners"].([]any)
	if len(runners) != 1 || runners[0].(object)["runnerId"] != "east" || runners[0].(object)["resources"] == nil || list.text("nextPageToken") == "" {
		t.Errorf("runners %s", list.raw)
	}
	list = w.call(w.user, http.MethodGet, "/v1beta2/runners?page_token="+list.text("nextPageToken"), nil).want(http.StatusOK)
	if one := list.body["runners"].([]any)[0].(object); one["runnerId"] != "west" || one["resources"] != nil || one["connectedAt"] == nil || one["healthy"] != true {
		t.Errorf("the next page, basic: %s", list.raw)
	}
	one := w.call(w.user, http.MethodGet, "/v1beta2/runners/west", nil).want(http.StatusOK)
	if one.at("resources") == nil || !slices.Contains(one.body["profileNames"].([]any), any("default")) {
		t.Errorf("runner %s", one.raw)
	}
	w.call(w.user, http.MethodGet, "/v1beta2/runners/none", nil).want(http.StatusNotFound, "CWSANDBOX_RUNNER_NOT_FOUND")
	profiles := w.call(w.user, http.MethodGet, "/v1beta2/profiles", nil).want(http.StatusOK)
	if all := profiles.body["profiles"].([]any); len(all) != 2 || all[0].(object)["profileName"] != "default" {
		t.Errorf("profiles %s", profiles.raw)
	}
	profile := w.call(w.user, http.MethodGet, "/v1beta2/profiles/default?runnerId=west", nil).want(http.StatusOK)
	if profile.text("runnerId") != "west" || profile.body["egressModes"].([]any)[0].(object)["name"] != "none" {
		t.Errorf("profile %s", profile.raw)
	}
	w.call(w.user, http.MethodGet, "/v1beta2/profiles/none", nil).want(http.StatusNotFound, "CWSANDBOX_PROFILE_NOT_FOUND")
	w.call(w.user, http.MethodGet, "/v1beta2/runners?page_token=forged", nil).want(http.StatusBadRequest, "PAGE_TOKEN_INVALID")
}
