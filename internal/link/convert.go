package link

import (
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/runner"
)

// The functions come in pairs, one for each direction. A test fills every field of the values and sends them there and back.

// Stamp returns a time as a message, nil for none.
func Stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Time is the reverse. What is no time is none.
func Time(t *timestamppb.Timestamp) time.Time {
	if t == nil || !t.IsValid() {
		return time.Time{}
	}
	return t.AsTime()
}

// LayerMessage returns a layer with its origin.
func LayerMessage(in *resolve.Input) *linkv1.Layer {
	out := &linkv1.Layer{
		Kind: in.Origin.Layer.String(), Object: in.Origin.Object, Id: in.Origin.ID, Revision: in.Origin.Revision,
		By: in.Origin.By, At: Stamp(in.Origin.At), Reason: in.Origin.Reason,
	}
	if !in.Layer.IsEmpty() {
		out.SpecJson = string(in.Layer.JSON())
	}
	return out
}

// LayerOf is the reverse. What does not parse is refused, so that nothing is left out of what is folded.
func LayerOf(m *linkv1.Layer) (resolve.Input, error) {
	kind, ok := resolve.ParseLayer(m.GetKind())
	if !ok {
		return resolve.Input{}, fault.Invalidf(fault.ReasonInvalidRequest, "%.40q is no kind of layer", m.GetKind()).WithHint("upgrade the runner: the gateway may be newer")
	}
	out := resolve.Input{Origin: resolve.Origin{
		Layer: kind, Object: m.GetObject(), ID: m.GetId(), Revision: m.GetRevision(), By: m.GetBy(), At: Time(m.GetAt()), Reason: m.GetReason(),
	}}
	text := m.GetSpecJson()
	if text == "" {
		text = "{}"
	}
	var err error
	if out.Layer, err = spec.ParseStored([]byte(text)); err != nil {
		e := fault.From(err).Clone()
		e.Message = "a layer that the gateway sent cannot be read: " + e.Message
		return out, e.WithHint("upgrade the runner: the gateway may know fields that it does not")
	}
	return out, nil
}

// LayerMessages and LayersOf convert lists.
func LayerMessages(in []resolve.Input) []*linkv1.Layer {
	out := make([]*linkv1.Layer, len(in))
	for i := range in {
		out[i] = LayerMessage(&in[i])
	}
	return out
}

// LayersOf is the reverse.
func LayersOf(list []*linkv1.Layer) ([]resolve.Input, error) {
	out := make([]resolve.Input, len(list))
	for i, m := range list {
		var err error
		if out[i], err = LayerOf(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// WorkMessage returns a work.
func WorkMessage(w *backend.Work) *linkv1.Work {
	out := &linkv1.Work{
		SandboxId: w.SandboxID, OrgId: w.OrgID, UserId: w.UserID, RunnerId: w.RunnerID, ProfileName: w.ProfileName, ZoneName: w.ZoneName,
		Spec: w.Spec, Digest: w.Digest, Launch: w.Launch, LifetimeSeconds: w.LifetimeSeconds, Privileged: w.Privileged,
	}
	for _, s := range w.Secrets {
		out.Secrets = append(out.Secrets, &linkv1.ResolvedSecret{EnvVar: s.EnvVar, Value: []byte(s.Value)})
	}
	return out
}

// WorkOf is the reverse.
func WorkOf(m *linkv1.Work) *backend.Work {
	out := &backend.Work{
		SandboxID: m.GetSandboxId(), OrgID: m.GetOrgId(), UserID: m.GetUserId(), RunnerID: m.GetRunnerId(), ProfileName: m.GetProfileName(),
		ZoneName: m.GetZoneName(), Spec: m.GetSpec(), Digest: m.GetDigest(), Launch: m.GetLaunch(), LifetimeSeconds: m.GetLifetimeSeconds(),
		Privileged: m.GetPrivileged(),
	}
	for _, s := range m.GetSecrets() {
		out.Secrets = append(out.Secrets, core.Secret{EnvVar: s.GetEnvVar(), Value: core.SecretValue(s.GetValue())})
	}
	return out
}

// PoolMessage returns a pool with its layers.
func PoolMessage(p *runner.Pool) *linkv1.Pool {
	return &linkv1.Pool{
		OrgId: p.OrgID, RunnerId: p.RunnerID, ProfileName: p.ProfileName, ZoneName: p.ZoneName, Spec: p.Spec, Digest: p.Digest,
		Size: clamp32(p.Size), Layers: LayerMessages(p.Layers),
	}
}

// PoolOf is the reverse.
func PoolOf(m *linkv1.Pool) (runner.Pool, error) {
	layers, err := LayersOf(m.GetLayers())
	return runner.Pool{Layers: layers, Pool: backend.Pool{
		OrgID: m.GetOrgId(), RunnerID: m.GetRunnerId(), ProfileName: m.GetProfileName(), ZoneName: m.GetZoneName(), Spec: m.GetSpec(), Digest: m.GetDigest(),
		Size: int(m.GetSize()),
	}}, err
}

// PoolStatusMessages returns how pools are.
func PoolStatusMessages(all []backend.PoolStatus) []*linkv1.PoolStatus {
	out := make([]*linkv1.PoolStatus, len(all))
	for i, p := range all {
		out[i] = &linkv1.PoolStatus{
			OrgId: p.OrgID, ProfileName: p.ProfileName, Digest: p.Digest, Size: int64(p.Size), Ready: int64(p.Ready), Preparing: int64(p.Preparing),
			Hits: p.Hits, Misses: p.Misses, Problem: clip(p.Problem, MaxText), RetryAt: Stamp(p.RetryAt),
		}
	}
	return out
}

// PoolStatusesOf is the reverse.
func PoolStatusesOf(list []*linkv1.PoolStatus) []backend.PoolStatus {
	var out []backend.PoolStatus
	for i, m := range list {
		if i == MaxList {
			break
		}
		out = append(out, backend.PoolStatus{
			OrgID: clip(m.GetOrgId(), MaxText), ProfileName: clip(m.GetProfileName(), MaxText), Digest: clip(m.GetDigest(), MaxText),
			Size: int(m.GetSize()), Ready: int(m.GetReady()), Preparing: int(m.GetPreparing()),
			Hits: m.GetHits(), Misses: m.GetMisses(), Problem: clip(m.GetProblem(), MaxText), RetryAt: Time(m.GetRetryAt()),
		})
	}
	return out
}

// AmountsMessage returns amounts.
func AmountsMessage(a core.Amounts) *linkv1.Amounts {
	return &linkv1.Amounts{CpuMillis: a.CPUMillis, MemoryBytes: a.MemoryBytes, Gpus: a.GPUs, Sandboxes: a.Sandboxes}
}

// AmountsOf is the reverse.
func AmountsOf(m *linkv1.Amounts) core.Amounts {
	return core.Amounts{CPUMillis: m.GetCpuMillis(), MemoryBytes: m.GetMemoryBytes(), GPUs: m.GetGpus(), Sandboxes: m.GetSandboxes()}
}

// UsageMessage returns a sample.
func UsageMessage(u core.Usage) *linkv1.UsageResponse {
	return &linkv1.UsageResponse{
		CpuMillis: u.CPUMillis, MemoryBytes: u.MemoryBytes, Pids: u.PIDs, Gpus: u.GPUs, DiskBytes: u.DiskBytes, OutputBytes: u.OutputBytes, NetworkBytes: u.NetworkBytes,
	}
}

// UsageOf is the reverse.
func UsageOf(m *linkv1.UsageResponse) core.Usage {
	return core.Usage{
		CPUMillis: m.GetCpuMillis(), MemoryBytes: m.GetMemoryBytes(), PIDs: m.GetPids(), GPUs: m.GetGpus(), DiskBytes: m.GetDiskBytes(),
		OutputBytes: m.GetOutputBytes(), NetworkBytes: m.GetNetworkBytes(),
	}
}

func clamp32(n int) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, n))) } //nolint:gosec // clamped

func texts[T interface{ String() string }](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// parsed reads what it can: what is no address is not told.
func parsed[T any](list []string, parse func(string) (T, error)) []T {
	var out []T
	for i, text := range list {
		if i == MaxList {
			break
		}
		if v, err := parse(text); err == nil {
			out = append(out, v)
		}
	}
	return out
}

func addrs(list []string) []netip.Addr      { return parsed(list, netip.ParseAddr) }
func prefixes(list []string) []netip.Prefix { return parsed(list, netip.ParsePrefix) }

func clipped(list []string) []string {
	var out []string
	for i, text := range list {
		if i == MaxList {
			break
		}
		out = append(out, clip(text, MaxText))
	}
	return out
}

func clippedMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(m), MaxList))
	for k, v := range m {
		if len(out) == MaxList {
			break
		}
		out[clip(k, MaxText)] = clip(v, MaxText)
	}
	return out
}

// Begun returns the files of an archive that are there in part.
func Begun(list []*linkv1.BegunFile) (out []archive.Begun) {
	for _, b := range list {
		out = append(out, archive.Begun{Name: b.GetName(), Offset: b.GetOffset(), Prefix: b.GetPrefixSha256()})
	}
	return out
}

// BegunMessages is the reverse of Begun.
func BegunMessages(list []archive.Begun) (out []*linkv1.BegunFile) {
	for _, b := range list {
		out = append(out, &linkv1.BegunFile{Name: b.Name, Offset: b.Offset, PrefixSha256: b.Prefix})
	}
	return out
}
