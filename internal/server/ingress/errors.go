package ingress

import (
	"context"
	"errors"
	"net/http"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
)

const (
	// reasonPortIdle: nothing passed for too long.
	reasonPortIdle = "PORT_TIMEOUT"
	// reasonPortLink: a browser cannot be let in here. reasonPortOrigin: what it asks for comes from a page of another origin.
	reasonPortLink   = "PORT_LINK_UNAVAILABLE"
	reasonPortOrigin = "PORT_ORIGIN_REFUSED"
	// reasonPortAnswer: what listens in the sandbox did not speak HTTP.
	reasonPortAnswer = "PORT_ANSWER_INVALID"
)

// asAnswer gives what went wrong before the sandbox answered the status of a gateway. gRPC's would be 400, as if it were for the caller to
// ask differently.
func asAnswer(err error, to *target) error {
	if errors.Is(err, context.Canceled) { // the caller went away
		return err
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return &wire.HTTPError{Status: http.StatusBadGateway, Err: fault.New(fault.Unavailable, reasonPortAnswer,
			"what listens on port %d of the sandbox gave no valid HTTP answer", to.port).WithCause(err).
			WithHint("it may speak another protocol, or TLS: berm port-forward %s %d carries any", to.id, to.port)}
	}
	switch {
	case fault.HasReason(err, fault.ReasonPortClosed):
		f = f.Clone()
		if f.Hint == "" {
			f.Hint = "start a server there; it may listen on 127.0.0.1"
		}
		return &wire.HTTPError{Status: http.StatusBadGateway, Err: f}
	case f.Code == fault.Precondition:
		return &wire.HTTPError{Status: http.StatusServiceUnavailable, Err: f}
	}
	return err
}

// brokenOff is an answer whose rest did not come, or could not be passed on.
func brokenOff(to *target) error {
	return fault.New(fault.Unavailable, reasonPortAnswer, "the answer of port %d of sandbox %s broke off", to.port, to.id)
}
