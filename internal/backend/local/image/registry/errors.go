package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/bermhq/berm/internal/core/fault"
)

var (
	// errStalled is the cause of a download that was ended because too little came.
	errStalled = errors.New("it stalled")
	// errManifestTime is the cause of a manifest that took too long.
	errManifestTime = errors.New("it took too long")
)

// lieError is an answer that is not what it must be: another size, another content, another form.
type lieError struct{ why string }

func (e *lieError) Error() string { return e.why }

func lie(format string, args ...any) error { return &lieError{fmt.Sprintf(format, args...)} }

// cutError is a body that broke off.
type cutError struct {
	n, size int64
	err     error
}

func (e *cutError) Error() string {
	return fmt.Sprintf("it broke off after %d of %d bytes: %v", e.n, e.size, e.err)
}
func (e *cutError) Unwrap() error { return e.err }

// statusError is an answer that is no success.
type statusError struct {
	code int
	// after is how long the registry asks to wait, 0 when it does not.
	after time.Duration
	err   error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// checkStatus returns the error of an answer that has none of the codes.
func checkStatus(resp *http.Response, codes ...int) error {
	err := transport.CheckError(resp, codes...)
	if err == nil {
		return nil
	}
	return &statusError{code: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After")), err: err}
}

// retryAfter reads the header: a number of seconds, or a date.
func retryAfter(text string) time.Duration {
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	d, err := time.ParseDuration(text + "s")
	if err != nil || d < 0 {
		return 0
	}
	return d
}

// passing reports whether an error may be gone by the next attempt, and how long the registry asks to wait. A registry that
// cannot be reached at all is not asked again: those who wait are better told.
func (l Limits) passing(err error) (after time.Duration, ok bool) {
	var status *statusError
	var plain *transport.Error
	var cut *cutError
	code := 0
	switch {
	case errors.As(err, &status):
		code, after = status.code, status.after
	case errors.As(err, &plain):
		code = plain.StatusCode
	case errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return 0, true
	case errors.As(err, &cut):
		var block *blockedError
		return 0, !errors.As(err, &block)
	}
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return after, after <= l.RetryAfter
	}
	return 0, false
}

// again calls f until it succeeds, fails for good, or has failed MaxAttempts times without a gain. f reports whether it
// gained something.
func (c *Client) again(ctx context.Context, b *budget, f func() (gained bool, err error)) error {
	wait := c.cfg.Limits.Backoff
	for attempt, requests := 1, 1; ; attempt, requests = attempt+1, requests+1 {
		if err := b.rested(ctx, c.cfg.Limits.RetryAfter); err != nil {
			return err
		}
		gained, err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if gained {
			attempt, wait = 1, c.cfg.Limits.Backoff
		}
		after, ok := c.cfg.Limits.passing(err)
		b.cool(after, err)
		if !ok || attempt >= MaxAttempts || requests >= MaxRequests {
			return err
		}
		timer := time.NewTimer(max(wait, after))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		wait *= 2
	}
}

// failed says what went wrong with what of a registry, as a fault: NotFound (IMAGE_NOT_FOUND), Invalid (IMAGE_INVALID) where the
// registry lies, Denied, Unavailable or Precondition (all IMAGE_PULL_FAILED). The caller's own end is returned as it is.
func (s *Session) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	host := s.repo.RegistryStr()
	pull := func(code fault.Code, format string, args ...any) *fault.Error {
		return fault.New(code, fault.ReasonImagePullFailed, "registry %s: %s: %s", host, what, s.creds.scrub(fmt.Sprintf(format, args...)))
	}
	var (
		block  *blockedError
		lied   *lieError
		disk   *diskError
		crowd  *crowdedError
		answer *transport.Error
	)
	switch {
	case errors.As(err, &disk):
		return disk.err
	case errors.As(err, &crowd):
		return pull(fault.Exhausted, "%s", crowd).WithHint("pull later, or let more pass: the registry's section in the file of berm serve --images")
	case errors.As(err, &block):
		why := block.why
		if strings.Count(err.Error(), "Get ") > 1 {
			why = err.Error() // Both ways to speak to a registry failed, each for its reason.
		}
		return pull(fault.Precondition, "%s", why).
			WithHint("an operator who means it lists the host in the file of berm serve --images, as private or insecure")
	case errors.As(err, &lied):
		return fault.Invalidf(fault.ReasonImageInvalid, "registry %s: %s: %s", host, what, s.creds.scrub(lied.why))
	case errors.Is(err, errStalled):
		return pull(fault.Unavailable, "%s: fewer than %d bytes came in %s", err, s.client.cfg.Limits.StallBytes, s.client.cfg.Limits.Stall)
	case errors.Is(err, errManifestTime):
		return pull(fault.Unavailable, "it took longer than %s", s.client.cfg.Limits.Manifest)
	case errors.As(err, &answer):
		return s.refused(pull, answer, asked(err))
	}
	return pull(fault.Unavailable, "%s", reason(err)).WithHint("is the machine's network what it should be? A mirror, or an OCI layout, needs none: berm serve --images")
}

// asked returns how long a registry asked to wait, 0 when it did not.
func asked(err error) time.Duration {
	var status *statusError
	var resting *restingError
	switch {
	case errors.As(err, &resting):
		return resting.wait
	case errors.As(err, &status):
		return status.after
	}
	return 0
}

// refused says what a registry answered.
func (s *Session) refused(pull func(fault.Code, string, ...any) *fault.Error, e *transport.Error, after time.Duration) error {
	text := fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode))
	for _, d := range e.Errors {
		// Not its detail: that may be anything.
		text += fmt.Sprintf("; %s: %s", d.Code, d.Message)
	}
	switch e.StatusCode {
	case http.StatusNotFound:
		return fault.NotFoundf(fault.ReasonImageNotFound, "registry %s has no %s (%s)", s.repo.RegistryStr(), s.repo.RepositoryStr(), s.creds.scrub(text)).
			WithHint("check the name and the tag; a private image that is not allowed to be seen is told as missing, too")
	case http.StatusUnauthorized, http.StatusForbidden:
		return pull(fault.Denied, "%s", text).WithHint("give the server credentials for %s: auth_file in the file of berm serve --images", s.repo.RegistryStr())
	case http.StatusTooManyRequests:
		f := pull(fault.Exhausted, "%s", text).WithHint("the registry limits pulls: credentials, or a mirror, may raise the limit")
		if after > 0 {
			f.Message += fmt.Sprintf("; it asks to wait %s", after.Round(time.Second))
			f.RetryAfter = after
		}
		return f
	}
	return pull(fault.Unavailable, "%s", text)
}

// reason is what of an error concerns people: without the request, whose URL may have secrets in its query.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) && u.Error() == err.Error() { // not one of several, of which each counts
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return "it cannot be reached: " + strings.TrimPrefix(op.Err.Error(), "lookup ")
	}
	text := err.Error()
	if strings.Contains(text, "no token in bearer response") {
		return "its token server gave no token" // the text goes on with the answer
	}
	return text
}

// diskError is an error of this machine's disk.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }
