package launch

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
)

// MaxJSON is the largest stored request, in bytes: the largest mounted files in base64, and room for the rest.
const MaxJSON = MaxMountedBytes/3*4 + 8<<20

// Marshal returns the canonical JSON of a launch: camelCase names in the order of the schema, map keys sorted, no spaces.
// Equal launches have equal texts.
func Marshal(l *specpb.Launch) ([]byte, error) {
	if l == nil {
		l = &specpb.Launch{}
	}
	text, err := protojson.MarshalOptions{}.Marshal(l)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the launch cannot be written as JSON: %v", err)
	}
	// protojson varies its spaces on purpose; without them the text is stable.
	var b bytes.Buffer
	b.Grow(len(text))
	if err := json.Compact(&b, text); err != nil {
		return nil, fault.Internalf(err, "compact the JSON of a launch")
	}
	return b.Bytes(), nil
}

// Unmarshal reads what Marshal wrote, and the same with other spacing, order or snake_case names. It does not check the
// shape: New does. Unknown fields are refused, so that an older server never drops a part of a newer one's request.
func Unmarshal(text []byte) (*specpb.Launch, error) {
	if len(text) > MaxJSON {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the launch has %d bytes as JSON, the limit is %d", len(text), MaxJSON)
	}
	l := &specpb.Launch{}
	if err := protojson.Unmarshal(text, l); err != nil {
		return nil, fault.Invalidf(fault.ReasonSyntax, "not a launch as JSON: %v", err)
	}
	return l, nil
}
