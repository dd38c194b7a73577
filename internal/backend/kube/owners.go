package kube

import (
	"encoding/json"
	"strings"
	"time"
)

// owner is who wrote a field last.
type owner struct {
	manager string
	at      time.Time
}

// ownersOf returns who wrote which field of an object, by path, as the API server keeps it. Of several the latest counts.
func ownersOf(object map[string]any) map[string]owner {
	var entries struct {
		Metadata struct {
			ManagedFields []struct {
				Manager, Subresource string
				Time                 time.Time
				FieldsV1             map[string]any
			}
		}
	}
	text, err := json.Marshal(map[string]any{"metadata": object["metadata"]})
	if err != nil || json.Unmarshal(text, &entries) != nil {
		return nil
	}
	out := map[string]owner{}
	for _, e := range entries.Metadata.ManagedFields {
		if e.Subresource == "status" {
			continue
		}
		owned(e.FieldsV1, "", func(path string) {
			if was, is := out[path]; !is || !e.Time.Before(was.at) {
				out[path] = owner{e.Manager, e.Time}
			}
		})
	}
	return out
}

// owned walks a set of fields as the API server writes it: "f:NAME" is a field, `k:{"KEY":…}` an element by its keys, "." that
// there is such a thing at all. Elements of sets ("v:") and of plain lists ("i:") are told as their lists.
func owned(set map[string]any, path string, tell func(path string)) {
	for key, below := range set {
		kind, name, _ := strings.Cut(key, ":")
		at := path
		switch kind {
		case "f":
			if at != "" {
				at += "."
			}
			at += name
		case "k":
			var keys map[string]any
			if json.Unmarshal([]byte(name), &keys) != nil {
				continue
			}
			at += "[" + identity(keys) + "]"
		}
		inner, _ := below.(map[string]any)
		if len(inner) == 0 && key != "." {
			tell(at)
		}
		owned(inner, at, tell)
	}
}

// ownerOf returns who wrote the field at a path, or the list or map that it is of as a whole.
func ownerOf(owners map[string]owner, path string) (string, time.Time) {
	for path != "" {
		if o, is := owners[path]; is {
			return o.manager, o.at
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return "", time.Time{}
}
