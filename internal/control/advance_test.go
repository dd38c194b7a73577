package control

import (
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

func TestAdvance(t *testing.T) {
	at := time.Date(2026, 5, 14, 12, 0, 0, 0, time.UTC)
	code := func(c int32) *int32 { return &c }
	tests := []struct {
		name   string
		status core.Status
		o      backend.Observation
		want   core.Status
		reason string
		code   *int32
		writes bool
	}{
		{name: "creating is not written", status: core.StatusPending, o: backend.Observation{Phase: backend.PhaseCreating}, want: core.StatusPending},
		{name: "running is", status: core.StatusPending, o: backend.Observation{Phase: backend.PhaseRunning, StartedAt: at}, want: core.StatusRunning, writes: true},
		{name: "running again is not", status: core.StatusRunning, o: backend.Observation{Phase: backend.PhaseRunning, StartedAt: at}, want: core.StatusRunning},
		{name: "stopping is not written", status: core.StatusRunning, o: backend.Observation{Phase: backend.PhaseStopping, StartedAt: at}, want: core.StatusRunning},
		{
			name: "an exit has its code in the same write", status: core.StatusRunning, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, ExitCode: code(3), Reason: core.EndExited},
			want: core.StatusCompleted, reason: "EXITED", code: code(3),
		},
		{
			name: "an end may be the first thing seen", status: core.StatusPending, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, ExitCode: code(0), Reason: core.EndExited, StartedAt: at},
			want: core.StatusCompleted, reason: "EXITED", code: code(0),
		},
		{
			name: "a stop without an observed code has none", status: core.StatusRunning, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, Reason: core.EndStopped},
			want: core.StatusCompleted, reason: "STOPPED",
		},
		{
			name: "an exit that nobody saw is a loss", status: core.StatusRunning, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, Reason: core.EndExited},
			want: core.StatusFailed, reason: "LOST: the end was not observed",
		},
		{
			name: "no reason and no code is a loss too", status: core.StatusRunning, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded},
			want: core.StatusFailed, reason: "LOST: the end was not observed",
		},
		{
			name: "out of memory fails", status: core.StatusRunning, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, Failed: true, Reason: core.EndOutOfMemory, Message: "limit 4Gi", ExitCode: code(137)},
			want: core.StatusFailed, reason: "OUT_OF_MEMORY: limit 4Gi", code: code(137),
		},
		{
			name: "an image that is not there fails", status: core.StatusPending, writes: true,
			o:    backend.Observation{Phase: backend.PhaseEnded, Failed: true, Reason: core.EndImageFailed, Message: "no such image"},
			want: core.StatusFailed, reason: "IMAGE_FAILED: no such image",
		},
		{
			name: "what has ended stays", status: core.StatusCompleted,
			o:    backend.Observation{Phase: backend.PhaseEnded, Failed: true, Reason: core.EndLost},
			want: core.StatusCompleted,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row := &core.Sandbox{ID: "x", Status: tt.status}
			tt.o.At = at
			next, writes := advance(row, &tt.o)
			if row.Status != tt.status {
				t.Error("the row given was changed")
			}
			if next.Status != tt.want || writes != tt.writes {
				t.Errorf("status %s, writes %v; want %s, %v", next.Status, writes, tt.want, tt.writes)
			}
			if next.StatusReason != tt.reason {
				t.Errorf("reason %q, want %q", next.StatusReason, tt.reason)
			}
			if (next.ExitCode == nil) != (tt.code == nil) || tt.code != nil && *next.ExitCode != *tt.code {
				t.Errorf("exit code %v, want %v", next.ExitCode, tt.code)
			}
			if writes && tt.want.Terminal() && !next.EndedAt.Equal(at) {
				t.Errorf("ended at %v", next.EndedAt)
			}
		})
	}
}

// TestAdvanceService: an address that is known when the sandbox starts costs no write, one that comes later has its own, and an end takes it away.
func TestAdvanceService(t *testing.T) {
	first, later := &core.Service{Mode: "public", Address: "10.0.0.1"}, &core.Service{Mode: "public", Address: "198.51.100.7"}
	row := &core.Sandbox{Status: core.StatusPending}
	if next, writes := advance(row, &backend.Observation{Phase: backend.PhaseCreating, Service: first}); writes || next.Service != nil {
		t.Errorf("while it is made: %+v is written: %t", next.Service, writes)
	}
	for _, step := range []struct {
		phase   backend.Phase
		service *core.Service
		writes  bool
		want    *core.Service
	}{
		{backend.PhaseRunning, first, true, first},
		{backend.PhaseRunning, &core.Service{Mode: "public", Address: "10.0.0.1"}, false, first},
		{backend.PhaseRunning, nil, false, first},
		{backend.PhaseRunning, later, true, later},
		{backend.PhaseEnded, later, true, nil},
	} {
		next, writes := advance(row, &backend.Observation{Phase: step.phase, Service: step.service})
		if writes != step.writes || !next.Service.Equal(step.want) {
			t.Errorf("%s with %+v: %+v, written: %t", step.phase, step.service, next.Service, writes)
		}
		row = next
	}
}

func TestLiveStatus(t *testing.T) {
	tests := []struct {
		written  core.Status
		phase    backend.Phase
		stopping bool
		want     core.Status
	}{
		{core.StatusPending, "", false, core.StatusPending},
		{core.StatusPending, backend.PhaseCreating, false, core.StatusCreating},
		{core.StatusPending, backend.PhaseRunning, false, core.StatusCreating}, // not RUNNING before that is written
		{core.StatusRunning, backend.PhaseRunning, false, core.StatusRunning},
		{core.StatusRunning, backend.PhaseRunning, true, core.StatusTerminating},
		{core.StatusRunning, backend.PhaseStopping, false, core.StatusTerminating},
		{core.StatusRunning, backend.PhaseEnded, true, core.StatusTerminating},
	}
	for _, tt := range tests {
		if got := statusNow(tt.written, &liveSandbox{phase: tt.phase, stopping: tt.stopping}); got != tt.want {
			t.Errorf("%s, %q, stopping %v: %s, want %s", tt.written, tt.phase, tt.stopping, got, tt.want)
		}
	}
}
