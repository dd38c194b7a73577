package server_test

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

// asked are all calls over gRPC that name a sandbox and move content, and what each answers: an error frame counts as one.
var asked = map[string]func(ctx context.Context, conn *grpc.ClientConn, id string) error{
	"Exec": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return second(v1beta2rpc.NewGatewayServiceClient(conn).Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}}))
	},
	"AddFile": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return second(v1beta2rpc.NewGatewayServiceClient(conn).AddFile(ctx, &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: "/tmp/x"}))
	},
	"RetrieveFile": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return second(v1beta2rpc.NewGatewayServiceClient(conn).RetrieveFile(ctx, &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: id, Filepath: "/etc/hosts"}))
	},
	"StreamExec": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return execFrameOf(ctx, conn, &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"true"}})
	},
	"StreamExec that resumes": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return execFrameOf(ctx, conn, &v1beta2pb.ExecStreamInit{SandboxId: id, ResumeSessionId: "s"})
	},
	"StreamLogs": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamLogs(ctx)
		if err != nil {
			return err
		}
		got, err := lastOf(s, []*v1beta2pb.LogStreamRequest{{Request: &v1beta2pb.LogStreamRequest_Init{Init: &v1beta2pb.LogStreamInit{SandboxId: id}}}})
		if len(got) != 1 || got[0].GetError() == nil || !errors.Is(err, io.EOF) {
			return nil
		}
		return errors.New(got[0].GetError().String())
	},
	"berm.v1 StreamLogs": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewLogServiceClient(conn).StreamLogs(ctx, &bermv1.StreamLogsRequest{SandboxId: id})
		if err != nil {
			return err
		}
		return second(s.Recv())
	},
	"AttachExec": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewExecServiceClient(conn).AttachExec(ctx)
		if err != nil {
			return err
		}
		init := &bermv1.AttachExecInit{SandboxId: id, ExecId: "mine"}
		return second(lastOf(s, []*bermv1.AttachExecRequest{{Request: &bermv1.AttachExecRequest_Init{Init: init}}}))
	},
	"ReadFile": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewFileServiceClient(conn).ReadFile(ctx, &bermv1.ReadFileRequest{SandboxId: id, Path: "/etc/hosts"})
		if err != nil {
			return err
		}
		return second(s.Recv())
	},
	"ReadArchive": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewFileServiceClient(conn).ReadArchive(ctx, &bermv1.ReadArchiveRequest{SandboxId: id, Path: "/etc"})
		if err != nil {
			return err
		}
		return second(s.Recv())
	},
	"WriteFile": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewFileServiceClient(conn).WriteFile(ctx)
		if err != nil {
			return err
		}
		_ = s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/x"}}})
		return second(s.CloseAndRecv())
	},
	"WriteFile that resumes": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewFileServiceClient(conn).WriteFile(ctx)
		if err != nil {
			return err
		}
		init := &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/x", Resumable: &bermv1.ResumableWrite{Size: 1}}
		_ = s.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: init}})
		return second(s.CloseAndRecv())
	},
	"GetFileState": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		return second(bermv1rpc.NewFileServiceClient(conn).GetFileState(ctx, &bermv1.GetFileStateRequest{SandboxId: id, Path: "/tmp/x"}))
	},
	"WriteArchive": func(ctx context.Context, conn *grpc.ClientConn, id string) error {
		s, err := bermv1rpc.NewFileServiceClient(conn).WriteArchive(ctx)
		if err != nil {
			return err
		}
		_ = s.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: &bermv1.WriteArchiveInit{SandboxId: id, Path: "/tmp", Name: "x"}}})
		return second(s.CloseAndRecv())
	},
}

// execFrameOf returns the error frame of a stream as an error; nil for one that had none, or more.
func execFrameOf(ctx context.Context, conn *grpc.ClientConn, init *v1beta2pb.ExecStreamInit) error {
	s, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(ctx)
	if err != nil {
		return err
	}
	got, err := lastOf(s, []*v1beta2pb.ExecStreamRequest{initFrame(init)})
	if len(got) != 1 || got[0].GetError() == nil || !errors.Is(err, io.EOF) {
		return nil
	}
	return errors.New(got[0].GetError().String())
}

// TestSandboxesOfOthersAreMissingToStreams: a sandbox of another organization is told like one that never was, to the letter, and nothing
// reaches it. (REST: TestAnotherOrganizationsIdsAreMissing.)
func TestSandboxesOfOthersAreMissingToStreams(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.must(second(w.execs(w.user).CreateExec(w.ctx(), &bermv1.CreateExecRequest{SandboxId: id, ExecId: "mine", Command: []string{"sleep", "infinity"}})))
	stranger := w.newOrg("other")
	const none = "00000000-0000-4000-8000-000000000000"
	request := regexp.MustCompile(`request[ _]id:? *"?[0-9a-f-]+"?`)
	for _, addr := range []string{w.addr, w.native} {
		conn := w.dial(addr, stranger)
		for name, ask := range asked {
			theirs, missing := ask(w.ctx(), conn, id), ask(w.ctx(), conn, none)
			if theirs == nil || missing == nil {
				t.Errorf("%s: %v, missing %v", name, theirs, missing)
				continue
			}
			said := func(err error, id string) string {
				return strings.ReplaceAll(request.ReplaceAllString(err.Error(), ""), id, "ID")
			}
			if a, b := said(theirs, id), said(missing, none); a != b || status.Code(theirs) != status.Code(missing) || reasonOf(theirs) != reasonOf(missing) || !strings.Contains(a, "ID") {
				t.Errorf("%s: %s, missing %s", name, a, b)
			}
		}
	}
	w.idleProcesses(id, 1) // what its owner began
	w.must(second(w.execs(w.user).DeleteExec(w.ctx(), &bermv1.DeleteExecRequest{SandboxId: id, ExecId: "mine"})))
}
