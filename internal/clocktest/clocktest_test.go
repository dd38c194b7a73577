package clocktest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/clocktest"
)

// TestSet: the day jumps, what passes does not, and what is stored knows the day alone.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clocktest.New()
		before := c.Now()
		if !before.Equal(time.Now()) || before.Format(time.RFC3339Nano) != time.Now().Format(time.RFC3339Nano) {
			t.Errorf("%v, the clock says %v", before, time.Now())
		}
		time.Sleep(time.Second)
		c.Set(-time.Hour)
		after := c.Now()
		if d := after.Sub(before); d != time.Second || !after.After(before) {
			t.Errorf("%v passed", d)
		}
		if d := after.Round(0).Sub(before.Round(0)); d != time.Second-time.Hour {
			t.Errorf("the day went on by %v", d)
		}
	})
}
