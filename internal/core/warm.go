package core

import "time"

// Limits of warm pools.
const (
	// MaxWarmSize is how many sandboxes a binding may keep prepared.
	MaxWarmSize = 64
	// MaxWarmTotal is how many all bindings of a runner may keep prepared together.
	MaxWarmTotal = 256
)

// EventWarm is the event that says whether a launch got a prepared sandbox. Its attributes are AttrWarmResult and, for a miss,
// AttrWarmReason. Launches on a runner that keeps none have no such event.
const (
	EventWarm      = "warm"
	AttrWarmResult = "result"
	AttrWarmReason = "reason"
	WarmHit        = "hit"
	WarmMiss       = "miss"
)

// WarmReason is why a launch got no prepared sandbox.
type WarmReason string

// The reasons.
const (
	// WarmNoPool: the binding keeps none.
	WarmNoPool WarmReason = "NO_POOL"
	// WarmSpecDiffers: the launch's spec is not the one that they were prepared from: the request changes a field of it, or the
	// configuration was edited a moment ago.
	WarmSpecDiffers WarmReason = "SPEC_DIFFERS"
	// WarmImageChanged: the image stands for other content than it did.
	WarmImageChanged WarmReason = "IMAGE_CHANGED"
	// WarmRequestNeeds: the request has something that must be there from the start.
	WarmRequestNeeds WarmReason = "REQUEST_NEEDS_OWN"
	// WarmRefilling: all were used, and new ones are being prepared.
	WarmRefilling WarmReason = "REFILLING"
	// WarmFailing: none can be prepared now.
	WarmFailing WarmReason = "PREPARING_FAILS"
	// WarmDied: the one that was to be used had died, or did not take what was the launch's.
	WarmDied WarmReason = "DIED"
)

// WarmReasons lists them.
func WarmReasons() []WarmReason {
	return []WarmReason{WarmNoPool, WarmSpecDiffers, WarmImageChanged, WarmRequestNeeds, WarmRefilling, WarmFailing, WarmDied}
}

// WarmVerdict says whether a launch got a prepared sandbox.
type WarmVerdict struct {
	Hit bool `json:"hit,omitempty"`
	// Reason and Message are set for a miss; Message says more, for people.
	Reason  WarmReason `json:"reason,omitempty"`
	Message string     `json:"message,omitempty"`
}

// Event returns the verdict as an event of a timeline.
func (v *WarmVerdict) Event(at time.Time) Event {
	if v.Hit {
		return Event{Name: EventWarm, At: at, Message: "hit: it was prepared before it was asked for", Attrs: map[string]string{AttrWarmResult: WarmHit}}
	}
	return Event{
		Name: EventWarm, At: at, Message: "miss: " + v.Message,
		Attrs: map[string]string{AttrWarmResult: WarmMiss, AttrWarmReason: string(v.Reason)},
	}
}
