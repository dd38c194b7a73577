package server_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

// A message that does not decode is the caller's mistake, in every method and on both listeners, and says so with a reason.
func TestUndecodableMessages(t *testing.T) {
	w := newWorld(t)
	for _, addr := range []string{w.addr, w.native} {
		conn := w.dial(addr, w.user)
		for name, message := range map[string]string{"no message at all": "\xff\xff\xff", "text that is not UTF-8": "\x0a\x02\xff\xfe"} {
			for _, r := range rpcs() {
				first := r.method.Input().Fields().ByNumber(1)
				if r.method.IsStreamingClient() || strings.HasPrefix(name, "text") && (first == nil || first.Kind() != protoreflect.StringKind) {
					continue
				}
				var answer []byte
				err := conn.Invoke(w.ctx(), r.full, []byte(message), &answer, grpc.ForceCodec(rawCodec{}))
				if status.Code(err) != codes.InvalidArgument && status.Code(err) != codes.PermissionDenied || reasonOf(err) == "" {
					t.Errorf("%s, %s: %v, reason %q", r.full, name, err, reasonOf(err))
				}
			}
		}
	}
}

// One in the middle of a stream ends the command and the call.
func TestUndecodableFrame(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	for _, addr := range []string{w.addr, w.native} {
		s, err := w.dial(addr, w.user).NewStream(w.ctx(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
			"/coreweave.sandbox.v1beta2.GatewayStreamingService/StreamExec", grpc.ForceCodec(rawCodec{}))
		w.must(err)
		first, err := proto.Marshal(initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}}))
		w.must(err)
		w.must(s.SendMsg(first))
		var ready []byte
		w.must(s.RecvMsg(&ready))
		w.must(s.SendMsg([]byte("\xff\xff\xff")))
		var answer []byte
		err = s.RecvMsg(&answer)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "decode") {
			t.Errorf("%v %q", err, answer)
		}
		if errors.Is(err, io.EOF) {
			t.Error("the stream ended as if all were well")
		}
		w.idleProcesses(id, 0)
	}
}
