package spec

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/bermhq/berm/internal/core/tree"
)

// Values that were read from the store a moment ago are not decoded anew: the same images, quantities and modes stand in many layers, and
// what is stored is not checked again, so that a value depends on nothing but its text.
const (
	// maxKnown is how many values are kept, maxKnownText the longest text of one, in bytes.
	maxKnown, maxKnownText = 2048, 128
)

// valueID is a value of a field, or of a key of an open object, by its text.
type valueID struct {
	field     *Field
	key, text string
}

func newKnown() *lru.Cache[valueID, *datum] {
	c, err := lru.New[valueID, *datum](maxKnown)
	if err != nil {
		panic(err) // for a size below 1
	}
	return c
}

// valueOf returns the identity of a value, false when it is too long to be kept.
func valueOf(f *Field, key string, n *tree.Node) (valueID, bool) {
	text := n.JSON()
	if len(key)+len(text) > maxKnownText {
		return valueID{}, false
	}
	return valueID{f, key, string(text)}, true
}
