package control

import (
	"errors"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
)

// TestUsedBesideAChange: what was read while something was being reserved or released is not remembered, as nobody knows whether
// it was in the answer.
func TestUsedBesideAChange(t *testing.T) {
	one := core.Amounts{CPUMillis: 50, Sandboxes: 1}
	read := core.Amounts{CPUMillis: 100, Sandboxes: 2}
	tests := []struct {
		name string
		// read happens somewhere around a change.
		run  func(u *usedAmounts, set func(epoch int)) error
		want core.Amounts
	}{
		{"before", func(u *usedAmounts, set func(int)) error {
			set(u.epoch())
			return u.change(func() error { u.add("r", one, -1); return nil })
		}, one},
		{"begun before, over after", func(u *usedAmounts, set func(int)) error {
			epoch := u.epoch()
			defer set(epoch)
			return u.change(func() error { return nil })
		}, core.Amounts{}},
		{"between commit and count", func(u *usedAmounts, set func(int)) error {
			return u.change(func() error { set(u.epoch()); u.add("r", one, -1); return nil })
		}, core.Amounts{}},
		{"begun within, over after", func(u *usedAmounts, set func(int)) error {
			var epoch int
			err := u.change(func() error { epoch = u.epoch(); return nil })
			set(epoch)
			return err
		}, core.Amounts{}},
		{"after a failure", func(u *usedAmounts, set func(int)) error {
			_ = u.change(func() error { return errors.New("not committed") })
			set(u.epoch())
			return nil
		}, read},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUsedAmounts()
			if err := tt.run(u, func(epoch int) { u.set(epoch, "r", read, time.Time{}) }); err != nil {
				t.Fatal(err)
			}
			if got, _ := u.get("r", time.Time{}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
