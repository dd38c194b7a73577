package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/server/wire"
)

// TestEveryCodeHasItsStatus is the table of docs/errors.md.
func TestEveryCodeHasItsStatus(t *testing.T) {
	for code, want := range map[fault.Code]struct {
		grpc codes.Code
		http int
	}{
		fault.Internal:        {codes.Internal, 500},
		fault.Invalid:         {codes.InvalidArgument, 400},
		fault.Unauthenticated: {codes.Unauthenticated, 401},
		fault.Denied:          {codes.PermissionDenied, 403},
		fault.NotFound:        {codes.NotFound, 404},
		fault.Exists:          {codes.AlreadyExists, 409},
		fault.Conflict:        {codes.Aborted, 409},
		fault.Precondition:    {codes.FailedPrecondition, 400},
		fault.Exhausted:       {codes.ResourceExhausted, 429},
		fault.OutOfRange:      {codes.OutOfRange, 400},
		fault.Unavailable:     {codes.Unavailable, 503},
		fault.Deadline:        {codes.DeadlineExceeded, 504},
		fault.Canceled:        {codes.Canceled, 499},
		fault.Unimplemented:   {codes.Unimplemented, 501},
	} {
		s := wire.Status(fault.New(code, "REASON", "text"), "r")
		if s.Code() != want.grpc || wire.HTTPStatus(s.Code()) != want.http || wire.Code(fault.New(code, "", "")) != want.grpc {
			t.Errorf("%s is %s and %d", code, s.Code(), wire.HTTPStatus(s.Code()))
		}
	}
	for c := fault.Code(0); !strings.HasPrefix(c.String(), "CODE_"); c++ {
		if s := wire.Status(fault.New(c, "REASON", "text"), "r"); s.Code() == codes.OK || s.Code() == codes.Unknown {
			t.Errorf("%s has no code on the wire", c)
		}
	}
}

func TestWhatCrosses(t *testing.T) {
	f := fault.Preconditionf("REASON", "what").WithField("a.b", "where").WithMeta("k", "v").WithHint("do this").WithRetry(3 * time.Second).
		WithCause(errors.New("the password is hunter2"))
	f.Fields[0].Line, f.Fields[0].Column = 3, 4
	s := wire.Status(fmt.Errorf("wrapped: %w", f), "req-1")
	if s.Message() != "what: a.b: where" {
		t.Errorf("message %q", s.Message())
	}
	text := fmt.Sprint(s.Details())
	for _, want := range []string{"REASON", "cwsandbox.com", "req-1", `key:"k"`, "seconds:3", "do this", "line 3, column 4: where"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text+s.Message(), "hunter2") {
		t.Error("a cause crossed")
	}
}

// TestMessages repeat the first violations, and nothing twice.
func TestMessages(t *testing.T) {
	f := fault.Invalidf("R", "a is wrong").WithField("a", "is wrong").WithField("b", "one").WithField("", "two").WithField("c", "three").WithField("d", "four")
	if got := wire.Status(f, "").Message(); got != "a is wrong: b: one; two; c: three; and more" {
		t.Errorf("got %q", got)
	}
}

func TestInternalWithAReasonIsTold(t *testing.T) {
	err := fault.New(fault.Internal, fault.ReasonStoreCorrupt, "the database file is corrupt").WithHint("restore a backup").WithCause(errors.New("hunter2"))
	s := wire.Status(err, "req-1")
	text := fmt.Sprint(s.Message(), s.Details())
	if s.Code() != codes.Internal || !strings.Contains(text, "corrupt") || !strings.Contains(text, "restore a backup") || !strings.Contains(text, fault.ReasonStoreCorrupt) || strings.Contains(text, "hunter2") {
		t.Errorf("%s: %s", s.Code(), text)
	}
}

func TestInternalsStayInside(t *testing.T) {
	for _, err := range []error{errors.New("pq: password hunter2"), fault.Internalf(errors.New("hunter2"), "hunter2 cannot be read")} {
		s := wire.Status(err, "req-1")
		if s.Code() != codes.Internal || strings.Contains(fmt.Sprint(s.Message(), s.Details()), "hunter2") || !strings.Contains(s.Message(), "req-1") {
			t.Errorf("got %v %v", s, s.Details())
		}
	}
}

func TestErrorsThatAreNoFaults(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code codes.Code
		says string
	}{
		"deadline":        {fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "deadline"},
		"canceled":        {context.Canceled, codes.Canceled, "went away"},
		"message too big": {status.Error(codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 8)"), codes.ResourceExhausted, "message larger than max"},
		"not decodable":   {status.Error(codes.Internal, "grpc: failed to unmarshal"), codes.InvalidArgument, "failed to unmarshal"},
		"no such method":  {status.Error(codes.Unimplemented, "unknown method"), codes.Unimplemented, "unknown method"},
		"unavailable":     {status.Error(codes.Unavailable, "closing"), codes.Unavailable, "closing"},
	} {
		if s := wire.Status(c.err, ""); s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
			t.Errorf("%s: %v", name, s)
		}
	}
}

// TestStatusesFit: whatever a fault carries, its status stays within the limit and keeps code, reason and request id.
func TestStatusesFit(t *testing.T) {
	text := rapid.StringN(0, 400, 3000)
	rapid.Check(t, func(rt *rapid.T) {
		f := fault.New(fault.Precondition, "REASON", "%s", text.Draw(rt, "message")).WithHint("%s", text.Draw(rt, "hint"))
		for i := range rapid.IntRange(0, 60).Draw(rt, "fields") {
			f.WithField(fmt.Sprint("field", i), "%s", text.Draw(rt, "field"))
		}
		for i := range rapid.IntRange(0, 40).Draw(rt, "meta") {
			f.WithMeta(fmt.Sprint("key", i), text.Draw(rt, "value"))
		}
		if rapid.Bool().Draw(rt, "refused") {
			r := &plan.Refusal{Reason: "REASON", Message: text.Draw(rt, "refusal")}
			for i := range rapid.IntRange(0, 300).Draw(rt, "candidates") {
				r.Candidates = append(r.Candidates, plan.Candidate{RunnerID: fmt.Sprint("runner", i), Reasons: []plan.Reason{{Code: "X", Message: "m", Path: "p"}}})
			}
			for range rapid.IntRange(0, 200).Draw(rt, "admitting") {
				r.Admitting = append(r.Admitting, "a-profile-with-a-name-that-is-as-long-as-names-may-be")
			}
			for range rapid.IntRange(0, 10).Draw(rt, "changes") {
				r.Changes = append(r.Changes, launch.Change{Path: "p", To: []byte(`"` + strings.Repeat("x", 500) + `"`)})
			}
			f.WithDetail(r)
		}
		s := wire.Status(f, "req-1")
		if n := proto.Size(s.Proto()); n > wire.MaxTrailer {
			rt.Fatalf("%d bytes", n)
		}
		if s.Code() != codes.FailedPrecondition {
			rt.Fatalf("code %s", s.Code())
		}
		for _, d := range s.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == "REASON" && info.GetMetadata()["request_id"] == "req-1" {
				return
			}
		}
		rt.Fatal("the reason was lost")
	})
}

// TestWhatIsKept: of a refusal the nearest request and the first candidates outlive the rest.
func TestWhatIsKept(t *testing.T) {
	r := &plan.Refusal{
		Reason: "REASON", Message: "m", Changes: []launch.Change{{Path: "resource_limits.cpu", From: []byte(`"4"`), To: []byte(`"2"`)}},
		Omitted: 8, Admitting: []string{"big"},
	}
	for i := range 512 {
		r.Candidates = append(r.Candidates, plan.Candidate{RunnerID: fmt.Sprint("runner", i), Reasons: []plan.Reason{{Code: "X", Message: strings.Repeat("why ", 100)}}})
	}
	f := fault.Preconditionf("REASON", "m").WithDetail(r)
	for _, d := range wire.Status(f, "").Details() {
		if kept, ok := d.(*bermv1.Refusal); ok {
			if len(kept.GetCandidates()) < 3 || kept.GetCandidates()[0].GetRunnerId() != "runner0" || kept.GetChanges()[0].GetTo().GetStringValue() != "2" {
				t.Errorf("kept %v", kept)
			}
			if all := len(kept.GetCandidates()) + int(kept.GetOmittedCandidates()); all != 520 || !slices.Equal(kept.GetAdmittingProfiles(), r.Admitting) {
				t.Errorf("%d candidates in all, admitting %v", all, kept.GetAdmittingProfiles())
			}
			return
		}
	}
	t.Error("the refusal is gone")
}

func TestHTTPErrors(t *testing.T) {
	rec := httptest.NewRecorder()
	wire.WriteError(rec, &wire.HTTPError{Status: http.StatusMethodNotAllowed, Err: fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED", "no")}, "req-1")
	if rec.Code != http.StatusMethodNotAllowed || !strings.Contains(rec.Body.String(), `"code":12`) || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	// A refusal of any size is whole over REST.
	r := &plan.Refusal{}
	for range 512 {
		r.Candidates = append(r.Candidates, plan.Candidate{RunnerID: "r"})
	}
	rec = httptest.NewRecorder()
	wire.WriteError(rec, fault.Preconditionf("REASON", "m").WithDetail(r), "")
	if n := strings.Count(rec.Body.String(), `"runnerId"`); n != 512 {
		t.Errorf("%d candidates", n)
	}
}
