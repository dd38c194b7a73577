package remote

import (
	"testing"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestOutputOfNothing: a runner that floods a reader with pieces of no bytes, which no offset ever ends, is not believed.
func TestOutputOfNothing(t *testing.T) {
	for _, m := range []*linkv1.AttachExecResponse{
		{Kind: &linkv1.AttachExecResponse_Stdout{}}, {Kind: &linkv1.AttachExecResponse_Stderr{Stderr: []byte{}}},
	} {
		cut := false
		a := &attachment{l: &Link{}, cancel: func() { cut = true }}
		if _, err := a.frame(m); fault.From(err).Code != fault.Unavailable || !cut {
			t.Errorf("%v: %v, cut off: %v", m, err, cut)
		}
	}
}
