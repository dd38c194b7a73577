package plan

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/place"
)

// Limits of what a refusal puts on the wire outside its structured detail. All of it travels in one header, in base64, and
// common clients accept 8 KiB of headers.
const (
	// maxMessage is the longest message, in bytes.
	maxMessage = 768
	// maxMeta bounds all metadata together, maxMetaCandidate the text of one candidate.
	maxMeta, maxMetaCandidate = 2048, 384
	// maxFields is how many field violations are given, maxField the longest one's text.
	maxFields, maxField = 12, 160
)

// render puts the refusal into the parts of a fault that every client can show.
func render(e *fault.Error, r *Refusal) {
	e.WithMeta("candidates", strconv.Itoa(len(r.Candidates)+r.Omitted))
	room := maxMeta
	put := func(key, value string) bool {
		if room -= len(key) + len(value); value == "" || room < 0 {
			return value == ""
		}
		e.WithMeta(key, value)
		return true
	}
	put("violated", strings.Join(paths(r), ","))
	put("admitting_profiles", strings.Join(r.Admitting, ","))
	put("nearest_changes", clip(describe(r.Changes), maxMetaCandidate))
	for i, c := range r.Candidates {
		if !put("candidate_"+strconv.Itoa(i+1), clip(c.text(), maxMetaCandidate)) {
			break
		}
	}
	violations(e, r)
	switch {
	case len(r.Changes) > 0:
		e.WithHint("%s", describe(r.Changes))
	case len(r.Admitting) > 0:
		e.WithHint("name one of these profiles: %s", listed(r.Admitting))
	}
}

// text returns a candidate in a line: "east/agent: GUARDRAIL_VIOLATED CPU limit …".
func (c *Candidate) text() string {
	var b strings.Builder
	b.WriteString(c.RunnerID)
	if c.ProfileName != "" {
		b.WriteString("/" + c.ProfileName)
	}
	b.WriteString(": ")
	for i, r := range c.Reasons {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(string(r.Code) + " " + r.Message)
	}
	return b.String()
}

// paths returns the fields that stand in the way, each once, in the order found.
func paths(r *Refusal) []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range r.Candidates {
		for _, reason := range c.Reasons {
			if reason.Path != "" && !seen[reason.Path] {
				seen[reason.Path] = true
				out = append(out, reason.Path)
			}
		}
	}
	return out[:min(len(out), maxFields)]
}

// violations adds the distinct violations of fields.
func violations(e *fault.Error, r *Refusal) {
	seen := map[string]bool{}
	for _, c := range r.Candidates {
		for _, reason := range c.Reasons {
			text := clip(reason.Message, maxField)
			if reason.Path == "" || reason.Code == place.CodeNotRequested || seen[reason.Path+text] {
				continue
			}
			if len(e.Fields) == maxFields {
				return
			}
			seen[reason.Path+text] = true
			e.WithField(reason.Path, "%s", text)
		}
	}
}

// clip shortens text to at most n bytes, at the start of a character.
func clip(s string, n int) string {
	const mark = "…"
	if len(s) <= n {
		return s
	}
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
