package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/bermhq/berm/internal/core/fault"
)

// ReasonHeader carries why a change is made, percent-encoded. It is kept with the revision. gRPC has it as metadata.
const ReasonHeader = "X-Berm-Reason"

// Reason returns the reason that a caller gives for a change, "" for none.
func Reason(r *http.Request) (string, error) {
	text, err := url.QueryUnescape(r.Header.Get(ReasonHeader))
	if err != nil {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "the header %s is not valid percent-encoding", ReasonHeader)
	}
	return text, nil
}

// ReasonOf is Reason for a call over gRPC.
func ReasonOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, strings.ToLower(ReasonHeader))
	if len(values) == 0 {
		return ""
	}
	if text, err := url.QueryUnescape(values[0]); err == nil {
		return text
	}
	return values[0]
}

// Etag returns the state of an object that a caller has seen, from the body or If-Match, "" for none. Both may be given when
// they agree. If-Match: * makes no condition.
func Etag(r *http.Request, inBody string) (string, error) {
	values := r.Header.Values("If-Match")
	if len(values) == 0 {
		return inBody, nil
	}
	text := strings.TrimSpace(values[0])
	if len(values) > 1 || strings.ContainsRune(text, ',') {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "If-Match names more than one etag")
	}
	if strings.HasPrefix(text, "W/") {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "If-Match names a weak etag; send the one that a read gave")
	}
	if text == "*" {
		return inBody, nil
	}
	etag := strings.Trim(text, `"`)
	if inBody != "" && inBody != etag {
		return "", fault.Invalidf(fault.ReasonFieldInvalid, "two etags were given").WithField("etag", "is %.80q in the body and %.80q in If-Match", inBody, etag)
	}
	return etag, nil
}

// SetEtag puts the etag of an object into the headers of an answer.
func SetEtag(w http.ResponseWriter, etag string) { w.Header().Set("ETag", `"`+etag+`"`) }
