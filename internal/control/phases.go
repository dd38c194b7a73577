package control

import (
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/tracing"
)

// LaunchPhase is a part of the way from a call to a running sandbox.
type LaunchPhase string

// The phases, in their order.
const (
	// PhasePlan: layers, guardrails and placement are decided, without waiting.
	PhasePlan LaunchPhase = "plan"
	// PhaseWait: the launch waited for room in a runner group. Only launches that waited have it.
	PhaseWait LaunchPhase = "wait"
	// PhaseCommit: the transaction of the launch, with what others committed along with it.
	PhaseCommit LaunchPhase = "commit"
	// PhaseSubmit: until the runner had taken the sandbox over.
	PhaseSubmit LaunchPhase = "submit"
	// PhasePull: until the image was there. Only backends that say so have it.
	PhasePull LaunchPhase = "pull"
	// PhaseCreate: from the commit, or the image, until what runs the sandbox had it.
	PhaseCreate LaunchPhase = "create"
	// PhaseStart: from there until the main process ran.
	PhaseStart LaunchPhase = "start"
	// PhaseRunning: all of it, from the call to the main process.
	PhaseRunning LaunchPhase = "running"
)

// LaunchPhases returns all phases.
func LaunchPhases() []LaunchPhase {
	return []LaunchPhase{PhasePlan, PhaseWait, PhaseCommit, PhaseSubmit, PhasePull, PhaseCreate, PhaseStart, PhaseRunning}
}

// phaseEnds are the events of a timeline at which phases end that a runner tells of.
var phaseEnds = []struct {
	event string
	phase LaunchPhase
}{{"image", PhasePull}, {"created", PhaseCreate}, {"started", PhaseStart}}

// tookSince counts a phase of this process.
func (s *Service) tookSince(phase LaunchPhase, since time.Time) {
	s.meter.Took(phase, time.Since(since))
}

// countStart counts the phases of a sandbox that has just begun to run, and makes spans of them in the trace of its launch. Its runner may have another clock, so that a phase can come
// out a little short or long; none is less than nothing.
func (s *Service) countStart(row *core.Sandbox, trace string) {
	first := map[string]time.Time{}
	for _, e := range row.Timeline {
		if _, ok := first[e.Name]; !ok {
			first[e.Name] = e.At
		}
	}
	from, ok := first["reserved"]
	if !ok || first["started"].IsZero() {
		return // It began as another one, or its backend does not say.
	}
	for _, end := range phaseEnds {
		if at, ok := first[end.event]; ok {
			s.meter.Took(end.phase, max(at.Sub(from), 0))
			tracing.Past(trace, "sandbox."+string(end.phase), from, later(from, at))
			if at.After(from) {
				from = at
			}
		}
	}
	tracing.Past(trace, "sandbox."+string(PhaseRunning), first["accepted"], later(first["accepted"], first["started"]))
	s.meter.Took(PhaseRunning, max(first["started"].Sub(first["accepted"]), 0))
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
