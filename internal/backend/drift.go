package backend

import (
	"encoding/json"
	"time"
)

// Kinds of drift.
const (
	// DriftChanged: it was submitted, and is another now.
	DriftChanged = "changed"
	// DriftAdded: it was not submitted.
	DriftAdded = "added"
	// DriftRemoved: it was submitted, and is not there.
	DriftRemoved = "removed"
)

// MaxDrift is how many fields a Drift names at most.
const MaxDrift = 500

// Drift is in what the object that what runs a sandbox holds of it now differs from the one that it was given.
type Drift struct {
	// Fields is ordered by path.
	Fields []DriftField
	// Omitted is how many there were beyond MaxDrift.
	Omitted int
}

// DriftField is one field that differs.
type DriftField struct {
	// Path is like spec.containers[main].image: elements of a list are named, not counted.
	Path string
	Kind string
	// Submitted and Held are JSON, nil where there is none.
	Submitted, Held json.RawMessage
	// Filled: this is filled in with every object, where nothing is said (a default, the node that was chosen).
	Filled bool
	// By is who wrote last what is held, and At when, as far as that is recorded.
	By string
	At time.Time
}
