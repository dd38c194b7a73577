package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

// NewGateway returns a mux for the generated REST handlers of the services named, such as
// "coreweave.sandbox.v1beta2.GatewayService". Register their handlers on it with the implementations themselves: the
// edge chain around the mux has authenticated the caller, so nothing is gained by a second pass through gRPC.
//
// The generated code alone would discard unknown query parameters, read past the end of the JSON, and let a body contradict
// its path; the middleware below refuses all three.
func NewGateway(services ...protoreflect.FullName) (*runtime.ServeMux, error) {
	t, err := newTable(services)
	if err != nil {
		return nil, err
	}
	codec := &strictJSON{JSONPb: runtime.JSONPb{
		// Every field is there, so that scripts need no case for absence; unset messages and unset optional fields are not.
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, codec),
		runtime.WithMiddlewares(t.strict),
		runtime.WithErrorHandler(fail),
		runtime.WithRoutingErrorHandler(t.unrouted),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) { return strings.ToLower(name), name == ReasonHeader }),
	), nil
}

// strict checks what the generated handler would not, and puts a body before it that is decoded strictly.
func (t *table) strict(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if err := t.prepare(r, params); err != nil {
			edge.Fail(r.Context(), w, err)
			return
		}
		next(w, r, params)
	}
}

func (t *table) prepare(r *http.Request, params map[string]string) error {
	pattern, _ := runtime.HTTPPattern(r.Context())
	rule, ok := t.rules[r.Method+" "+pattern.String()]
	if !ok {
		return fault.Internalf(nil, "the route %s %s has no rule", r.Method, pattern)
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(rule.method.Input().FullName())
	if err != nil {
		return fault.Internalf(err, "the request message is not linked")
	}
	if rule.body {
		r.Body = &strictBody{ReadCloser: r.Body, request: r, params: params}
		_, err := Query(r)
		return err
	}
	if err := NoBody(r); err != nil {
		return err
	}
	m := input.New()
	if err := QueryInto(r, m, func(name string) bool { _, inPath := params[name]; return inPath }); err != nil {
		return err
	}
	spellEnums(r, m)
	return nil
}

// strictBody carries a request to the decoder and what is wrong with it to the error handler: between them stands generated
// code that keeps only the text of an error.
type strictBody struct {
	io.ReadCloser
	request *http.Request
	params  map[string]string
	wrong   error
}

// decode reads the body into m and compares it with the path.
func (b *strictBody) decode(m proto.Message) error {
	data, err := ReadBody(b.request)
	if err != nil {
		return err
	}
	if err := decode(data, m); err != nil {
		return err
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for name, inPath := range b.params {
		fd := fields.ByName(protoreflect.Name(name))
		if fd == nil || fd.Kind() != protoreflect.StringKind {
			continue
		}
		if inBody := m.ProtoReflect().Get(fd).String(); inBody != "" && inBody != inPath {
			return fault.Invalidf(fault.ReasonFieldInvalid, "the body contradicts the path").
				WithField(name, "is %q in the body and %q in the path; leave it out of the body", inBody, inPath)
		}
	}
	return nil
}

// strictJSON is the gateway's JSON with a strict decoder of requests.
type strictJSON struct{ runtime.JSONPb }

// NewDecoder implements runtime.Marshaler.
func (s *strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		b, ok := r.(*strictBody)
		m, isMessage := v.(proto.Message)
		if !ok || !isMessage {
			return errors.New("a body that did not pass the strict middleware")
		}
		b.wrong = b.decode(m)
		return b.wrong
	})
}

// fail sends an error of a handler, or of the decoding before it.
func fail(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if b, ok := r.Body.(*strictBody); ok && b.wrong != nil {
		err = b.wrong
	}
	if malformed, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		err = fault.Invalidf(fault.ReasonSyntax, "the path is not valid percent-encoding: %v", malformed.Err)
	}
	edge.Fail(ctx, w, err)
}
