package serve

import "testing"

// TestOvertaken: the order of revisions is that of one gateway's connections: what it said before is not done after what it said since.
func TestOvertaken(t *testing.T) {
	one := &server{}
	for _, tt := range []struct {
		revision int32
		old      bool
	}{{5, false}, {4, true}, {5, false}, {6, false}} {
		if got := one.overtaken(tt.revision); got != tt.old {
			t.Errorf("%d: %t", tt.revision, got)
		}
	}
	if next := (&server{}); next.overtaken(1) {
		t.Error("what another connection said has the word")
	}
}
