package local

import "testing"

// TestSuspendAfterRestart: a server that takes over a sandbox which can be saved leaves its runtime what that knows of it.
func TestSuspendAfterRestart(t *testing.T) {
	b := open(t, withRuntime("runsc"))
	id := counting(t, b)
	b.reopen()
	b.isRunning(id)
	if err := b.Suspend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if r := b.exec(id, "echo", "alive"); r.out != "alive\n" {
		t.Errorf("%+v", r)
	}
}
