package control

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Etag identifies one revision of an object's configuration. It changes with every revision and with nothing else: a
// heartbeat or an install status does not touch it. It is opaque.
func Etag(m core.Meta) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", m.OrgID, m.ID, m.Revision))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// checkEtag refuses a write that was made for another state. An empty etag makes no condition.
func checkEtag(etag, what string, m core.Meta) error {
	if etag == "" || etag == Etag(m) {
		return nil
	}
	return fault.New(fault.Conflict, fault.ReasonEtagMismatch, "%s was changed since: it is at revision %d, by %s", what, m.Revision, m.UpdatedBy).
		WithHint("read it again, apply the change to what is there now, and send its etag")
}
