package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Time returns a time as a message, nil for the zero time.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
