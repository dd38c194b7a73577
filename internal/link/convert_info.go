package link

import (
	"encoding/json"
	"time"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// InfoMessage returns what a backend can do.
func InfoMessage(i *backend.Info) *linkv1.Info {
	out := &linkv1.Info{
		Kind: i.Kind, Architecture: i.Architecture, RuntimeClasses: i.RuntimeClasses, DefaultRuntimeClass: i.DefaultRuntimeClass,
		Isolation: i.Isolation, Capacity: AmountsMessage(i.Capacity), Unenforced: i.Unenforced, Features: i.Features, Refusal: i.Refusal,
		RefusalReason: i.RefusalReason, RefusalHints: i.RefusalHints, RefusedSince: Stamp(i.RefusedSince),
	}
	if i.NodeLabels != nil {
		out.NodeLabels = &linkv1.Labels{Entries: i.NodeLabels}
	}
	for _, r := range i.Runtimes {
		m := &linkv1.Runtime{Name: r.Name, Program: r.Program, Isolation: r.Isolation, Unenforced: r.Unenforced}
		for _, e := range r.Enforcement {
			m.Enforcement = append(m.Enforcement, &linkv1.Enforcement{Name: e.Name, Works: e.Works, Note: e.Note})
		}
		out.Runtimes = append(out.Runtimes, m)
	}
	return out
}

// InfoOf is the reverse, with what a runner says cut to size.
func InfoOf(m *linkv1.Info) backend.Info {
	out := backend.Info{
		Kind: clip(m.GetKind(), MaxText), Architecture: clip(m.GetArchitecture(), MaxText), RuntimeClasses: clipped(m.GetRuntimeClasses()),
		DefaultRuntimeClass: clip(m.GetDefaultRuntimeClass(), MaxText), Isolation: clip(m.GetIsolation(), MaxText), Capacity: AmountsOf(m.GetCapacity()),
		Unenforced: clippedMap(m.GetUnenforced()), Features: clipped(m.GetFeatures()), Refusal: clip(m.GetRefusal(), MaxText),
		RefusalReason: clip(m.GetRefusalReason(), MaxText), RefusalHints: clipped(m.GetRefusalHints()), RefusedSince: Time(m.GetRefusedSince()),
	}
	if m.GetNodeLabels() != nil {
		if out.NodeLabels = clippedMap(m.GetNodeLabels().GetEntries()); out.NodeLabels == nil {
			out.NodeLabels = map[string]string{}
		}
	}
	for i, r := range m.GetRuntimes() {
		if i == MaxList {
			break
		}
		one := backend.Runtime{
			Name: clip(r.GetName(), MaxText), Program: clip(r.GetProgram(), MaxText), Isolation: clip(r.GetIsolation(), MaxText), Unenforced: clippedMap(r.GetUnenforced()),
		}
		for j, e := range r.GetEnforcement() {
			if j == MaxList {
				break
			}
			one.Enforcement = append(one.Enforcement, backend.Enforcement{Name: clip(e.GetName(), MaxText), Works: e.GetWorks(), Note: clip(e.GetNote(), MaxText)})
		}
		out.Runtimes = append(out.Runtimes, one)
	}
	return out
}

// ObservationMessage returns an observation.
func ObservationMessage(o *backend.Observation) *linkv1.Observation {
	out := &linkv1.Observation{
		SandboxId: o.SandboxID, Phase: string(o.Phase), At: Stamp(o.At), StartedAt: Stamp(o.StartedAt), ExitCode: o.ExitCode, Failed: o.Failed,
		Reason: clip(o.Reason, MaxText), Message: clip(o.Message, MaxText), SubmittedJson: o.Submitted, Service: serviceMessage(o.Service),
	}
	for _, e := range o.Events {
		out.Events = append(out.Events, &linkv1.Event{Name: clip(e.Name, MaxText), At: Stamp(e.At), Message: clip(e.Message, MaxText), Attributes: clippedMap(e.Attrs)})
	}
	return out
}

// maxEvents is how many events of one observation are taken, and maxIDText how long the id of a sandbox can be, in bytes.
const (
	maxEvents = 256
	maxIDText = 128
)

// ObservationOf is the reverse. It returns nil for what no honest runner says; times ahead of now are now.
func ObservationOf(m *linkv1.Observation, now time.Time) *backend.Observation {
	out := &backend.Observation{
		SandboxID: m.GetSandboxId(), Phase: backend.Phase(m.GetPhase()), At: notAhead(Time(m.GetAt()), now), StartedAt: notAhead(Time(m.GetStartedAt()), now),
		ExitCode: m.ExitCode, Failed: m.GetFailed(), Reason: clip(m.GetReason(), MaxText), Message: clip(m.GetMessage(), MaxText), Service: serviceOf(m.GetService()),
	}
	switch out.Phase {
	case backend.PhaseCreating, backend.PhaseRunning, backend.PhasePaused, backend.PhaseStopping, backend.PhaseEnded:
	default:
		return nil
	}
	if out.SandboxID == "" || len(out.SandboxID) > maxIDText {
		return nil
	}
	if out.At.IsZero() {
		out.At = now
	}
	if s := m.GetSubmittedJson(); len(s) > 0 && len(s) <= MaxSubmitted && json.Valid(s) {
		out.Submitted = s
	}
	for i, e := range m.GetEvents() {
		if i == maxEvents {
			break
		}
		at := notAhead(Time(e.GetAt()), now)
		if at.IsZero() {
			at = out.At
		}
		out.Events = append(out.Events, core.Event{Name: clip(e.GetName(), MaxText), At: at, Message: clip(e.GetMessage(), MaxText), Attrs: clippedMap(e.GetAttributes())})
	}
	return out
}

// notAhead bounds a time by the clock here: what is counted by the hour must not begin or end in the future.
func notAhead(t, now time.Time) time.Time {
	if t.After(now.Add(MaxSkew)) {
		return now
	}
	return t
}

// ImageMessage returns an image.
func ImageMessage(i *backend.Image) *linkv1.Image {
	return &linkv1.Image{
		Digest: i.Digest, Index: i.Index, Names: i.Names, From: i.From, PulledAt: Stamp(i.PulledAt), UsedAt: Stamp(i.UsedAt), Layers: int64(i.Layers),
		Bytes: i.Bytes, Own: i.Own, InUse: int64(i.InUse), Pinned: i.Pinned, Downloaded: i.Downloaded,
	}
}

// ImageOf is the reverse.
func ImageOf(m *linkv1.Image) backend.Image {
	return backend.Image{
		Digest: clip(m.GetDigest(), MaxText), Index: clip(m.GetIndex(), MaxText), Names: clipped(m.GetNames()), From: clip(m.GetFrom(), MaxText),
		PulledAt: Time(m.GetPulledAt()), UsedAt: Time(m.GetUsedAt()), Layers: int(m.GetLayers()), Bytes: m.GetBytes(), Own: m.GetOwn(),
		InUse: int(m.GetInUse()), Pinned: m.GetPinned(), Downloaded: m.GetDownloaded(),
	}
}

// ImagesMessage returns images.
func ImagesMessage(all []backend.Image) []*linkv1.Image {
	out := make([]*linkv1.Image, len(all))
	for i := range all {
		out[i] = ImageMessage(&all[i])
	}
	return out
}

// ImagesOf is the reverse. Their number is bounded by the size of the message.
func ImagesOf(list []*linkv1.Image) []backend.Image {
	out := make([]backend.Image, len(list))
	for i, m := range list {
		out[i] = ImageOf(m)
	}
	return out
}

// FileInfoMessage returns what a file is, nil for none.
func FileInfoMessage(i *backend.FileInfo) *linkv1.FileInfo {
	if i == nil {
		return nil
	}
	return &linkv1.FileInfo{Size: i.Size, Mode: i.Mode, ModifiedAt: Stamp(i.ModTime)}
}

// FileInfoOf is the reverse.
func FileInfoOf(m *linkv1.FileInfo) *backend.FileInfo {
	if m == nil {
		return nil
	}
	return &backend.FileInfo{Size: max(0, m.GetSize()), Mode: m.GetMode(), ModTime: Time(m.GetModifiedAt())}
}
