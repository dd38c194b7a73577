// Package openapi serves the description of the REST interface, which is generated from the same annotations as the interface.
package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"time"
)

// Path is where the description is served, to everybody: it says nothing about what is configured.
const Path = "/openapi.json"

// document is OpenAPI 3.1; script/generate makes it, and head.json is how it begins.
//
//go:embed openapi.json
var document []byte

// Document returns the description as it is served, OpenAPI 3.1 as JSON.
func Document() []byte { return bytes.Clone(document) }

// Handler serves the description.
func Handler() http.Handler {
	sum := sha256.Sum256(document)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Etag", etag)
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(document))
	})
}
