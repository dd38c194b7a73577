package client

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bermhq/berm/internal/core/fault"
)

func TestUnreachableServer(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`:                "dial tcp 127.0.0.1:1: connect: connection refused",
		`connection error: desc = "transport: authentication handshake failed: tls: first record does not look like a TLS handshake"`: "tls: first record does not look like a TLS handshake",
		"something new": "something new",
	} {
		f := fault.From(FromRPC(status.Error(codes.Unavailable, text)))
		if f.Code != fault.Unavailable || f.Message != "cannot reach the server: "+want || f.Hint == "" {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

func TestHintOfAConnectionThatFailed(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`: "--ca-file",
		`connection error: desc = "transport: authentication handshake failed: tls: first record does not look like a TLS handshake"`:                             "http://",
		`connection error: desc = "error reading server preface: connection reset by peer"`:                                                                       "https://",
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`:                                            "berm serve",
	} {
		if f := fault.From(FromRPC(status.Error(codes.Unavailable, text))); !strings.Contains(f.Hint, want) {
			t.Errorf("%s: the hint is %q", text, f.Hint)
		}
	}
}

func TestConnectionThatBroke(t *testing.T) {
	f := fault.From(FromRPC(status.Error(codes.Unavailable, "error reading from server: EOF")))
	if f.Code != fault.Unavailable || f.Message != "the connection to the server broke: EOF" || !strings.Contains(f.Hint, "may go on") {
		t.Errorf("%+v", f)
	}
}
