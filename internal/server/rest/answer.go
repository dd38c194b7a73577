package rest

import (
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/core/fault"
)

// WriteJSON sends a JSON body with status 200.
func WriteJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append(body, '\n')) // a caller who went away needs no answer
}

// WriteMessage sends m in its protobuf JSON form: camelCase names, unset fields left out.
func WriteMessage(w http.ResponseWriter, m proto.Message) error {
	body, err := protojson.Marshal(m)
	if err != nil {
		return fault.Internalf(err, "the answer has no JSON form")
	}
	WriteJSON(w, body)
	return nil
}
