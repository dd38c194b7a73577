package rest

import (
	"net/http"

	"google.golang.org/protobuf/proto"
)

// List reads the query parameters of a list, in either spelling, into the message that asks for it.
func List(r *http.Request, m proto.Message) error {
	if err := QueryInto(r, m.ProtoReflect(), func(string) bool { return false }); err != nil {
		return err
	}
	return NoBody(r)
}
