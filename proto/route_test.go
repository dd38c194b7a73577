package proto_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

// echo answers with what the route made of the URL.
type echo struct {
	v1beta2rpc.UnimplementedGatewayServiceServer
	seen string
}

func (e *echo) RetrieveFile(_ context.Context, r *v1beta2pb.RetrieveFileSandboxRequest) (*v1beta2pb.RetrieveFileSandboxResponse, error) {
	e.seen = "file " + r.GetFilepath() + " of " + r.GetSandboxId()
	return nil, status.Error(codes.NotFound, "")
}

func (e *echo) GetFileSystemSnapshot(_ context.Context, r *v1beta2pb.GetFileSystemSnapshotRequest) (*v1beta2pb.FileSystemSnapshot, error) {
	e.seen = "snapshot " + r.GetFileSystemSnapshotId()
	return nil, status.Error(codes.NotFound, "")
}

func (e *echo) GetFileSystemSnapshotBucketConfig(context.Context, *v1beta2pb.GetFileSystemSnapshotBucketConfigRequest) (*v1beta2pb.FileSystemSnapshotBucketConfig, error) {
	e.seen = "bucket config"
	return nil, status.Error(codes.NotFound, "")
}

// TestRoutesThatOverlap covers the two places where the order or the form of annotations decides what a URL means: file
// paths with encoded slashes, and a fixed name beside an id.
func TestRoutesThatOverlap(t *testing.T) {
	for url, want := range map[string]string{
		"/v1beta2/sandboxes/s/files/%2Ftmp%2Fa%20b%25":    "file /tmp/a b% of s",
		"/v1beta2/sandboxes/s/files/%2Ftmp%2Fa%252Fb":     "file /tmp/a%2Fb of s",
		"/v1beta2/sandboxes/s/files/%2Fa%2F..%2Fb%2F":     "file /a/../b/ of s",
		"/v1beta2/sandboxes/s/files/%2Ftmp%2Fa:stop":      "file /tmp/a:stop of s",
		"/v1beta2/sandboxes/s/files/%2Fa%3Fb%23c":         "file /a?b#c of s",
		"/v1beta2/sandboxes/s/files/relative":             "file relative of s",
		"/v1beta2/file-system-snapshots/bucket-config":    "bucket config",
		"/v1beta2/file-system-snapshots/bucket-config-no": "snapshot bucket-config-no",
	} {
		e := &echo{}
		mux := runtime.NewServeMux()
		if err := v1beta2rpc.RegisterGatewayServiceHandlerServer(t.Context(), mux, e); err != nil {
			t.Fatal(err)
		}
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", url, nil))
		if e.seen != want {
			t.Errorf("GET %s is %q, want %q", url, e.seen, want)
		}
	}
}
