package core

import (
	"slices"
	"strings"
)

const (
	// MaxTimeline is how many events of a sandbox are kept, wherever they wait or stay. A sane backend tells about ten.
	MaxTimeline = 64
	// MaxEventText is the longest message of an event, and the longest reason of an end, in bytes: a backend may quote what a
	// program said.
	MaxEventText = 1024
)

// ClipText cuts a text to what is kept of it, and makes it one that every store keeps.
func ClipText(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= MaxEventText {
		return text
	}
	return strings.ToValidUTF8(text[:MaxEventText], "") + "…"
}

// AppendEvents returns a new timeline. What is there already is not added again: a backend that is observed anew repeats the events of
// its last observation, and says more of one that goes on, as a pull does: then the later counts. When the timeline is full the oldest
// events stay, and the newest: how it began and how it ended matter more than the middle.
func AppendEvents(old, more []Event) []Event {
	all := slices.Clone(old)
	for _, e := range more {
		e.Message = ClipText(e.Message)
		known := func(k Event) bool { return k.Name == e.Name && k.At.Equal(e.At) }
		if i := slices.IndexFunc(all, known); i >= 0 {
			all[i] = e
		} else {
			all = append(all, e)
		}
	}
	if len(all) > MaxTimeline {
		all = append(all[:MaxTimeline-1], all[len(all)-1])
	}
	return all
}
