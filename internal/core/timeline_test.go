package core

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTimelineIsBoundedAndWithoutRepetition(t *testing.T) {
	at := time.Date(2026, 5, 14, 12, 0, 0, 0, time.UTC)
	var all []Event
	for i := range 3 * MaxTimeline {
		e := Event{Name: "tick", At: at.Add(time.Duration(i) * time.Second)}
		all = AppendEvents(all, []Event{e, e})
	}
	if len(all) != MaxTimeline {
		t.Errorf("%d events are kept", len(all))
	}
	if !all[0].At.Equal(at) || !all[len(all)-1].At.Equal(at.Add((3*MaxTimeline-1)*time.Second)) {
		t.Errorf("first %v, last %v", all[0].At, all[len(all)-1].At)
	}
	long := AppendEvents(nil, []Event{{Name: "ended", Message: strings.Repeat("é\x00\xff", MaxEventText)}})
	if m := long[0].Message; len(m) > MaxEventText+4 || !utf8.ValidString(m) || strings.ContainsRune(m, 0) {
		t.Errorf("a message of %d bytes is kept: %.20q", len(m), m)
	}
}
