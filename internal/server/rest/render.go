package rest

import (
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// MessageNode returns a message as REST shows it: every field, but for messages that are unset.
func MessageNode(m proto.Message) (*tree.Node, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fault.Internalf(err, "the answer has no JSON form")
	}
	n, err := tree.ParseJSON(text)
	if err != nil {
		return nil, fault.Internalf(err, "the answer cannot be rendered")
	}
	return n, nil
}

// WriteObject sends one object with its etag.
func WriteObject(w http.ResponseWriter, n *tree.Node) error {
	SetEtag(w, n.Get("etag").Text)
	WriteJSON(w, n.JSON())
	return nil
}

// WriteList sends a page of objects. The key of the list and nextPageToken are always there.
func WriteList[T any](w http.ResponseWriter, key string, items []T, next string, render func(T) (*tree.Node, error)) error {
	list := &tree.Node{Kind: tree.List}
	for _, item := range items {
		n, err := render(item)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, n)
	}
	page := &tree.Node{Kind: tree.Object, Keys: []tree.Key{
		{Name: key, Value: list}, {Name: "nextPageToken", Value: &tree.Node{Kind: tree.String, Text: next}},
	}}
	WriteJSON(w, page.JSON())
	return nil
}
