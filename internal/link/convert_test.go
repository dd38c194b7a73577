package link_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/runner"
)

// fill gives every field of a value something of its own, so that one that does not cross the line is noticed.
type filler struct{ n int64 }

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+f.n, f.n).UTC()))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(f.n)})))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(f.n), 0, 0}), 16)))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(json.RawMessage(fmt.Sprintf(`{"n":%d}`, f.n))))
		return
	case backend.Phase:
		v.SetString(string(backend.PhaseEnded))
		return
	case *specpb.ProfileSpec:
		v.Set(reflect.ValueOf(&specpb.ProfileSpec{ContainerImage: proto.String(fmt.Sprint("image", f.n))}))
		return
	case *specpb.Launch:
		v.Set(reflect.ValueOf(&specpb.Launch{Command: fmt.Sprint("command", f.n)}))
		return
	case resolve.Layer:
		v.Set(reflect.ValueOf(resolve.LayerOverride))
		return
	case *spec.Layer:
		l, err := spec.ParseLayer([]byte(`{"tags":null,"node_selector":{},"container_image":"host"}`))
		if err != nil {
			panic(err)
		}
		v.Set(reflect.ValueOf(l))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprint("text", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(f.n)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(f.n % 200))
	default:
		panic("no filling for " + v.Type().String())
	}
}

// crossed fills a value, sends it there and back and compares.
func crossed[T any](t *testing.T, over func(*T) T) {
	t.Helper()
	var in T
	(&filler{}).fill(reflect.ValueOf(&in).Elem())
	out := over(&in)
	equal := cmp.Options{
		protocmp.Transform(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b *spec.Layer) bool { return a.String() == b.String() }),
	}
	if diff := cmp.Diff(in, out, equal); diff != "" {
		t.Errorf("%T did not cross the line whole (-sent +received):\n%s", in, diff)
	}
}

// wired sends a message as bytes, as the line does.
func wired[M proto.Message](t *testing.T, m, into M) M {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// TestNothingIsLostOnTheLine: a field that is added to one of these values and not to the line fails here.
func TestNothingIsLostOnTheLine(t *testing.T) {
	crossed(t, func(v *backend.Info) backend.Info {
		return link.InfoOf(wired(t, link.InfoMessage(v), &linkv1.Info{}))
	})
	crossed(t, func(v *backend.Observation) backend.Observation {
		return *link.ObservationOf(wired(t, link.ObservationMessage(v), &linkv1.Observation{}), time.Now())
	})
	crossed(t, func(v *backend.Network) backend.Network {
		return *link.NetworkOf(wired(t, link.NetworkMessage(v), &linkv1.NetworkResponse{}))
	})
	crossed(t, func(v *egress.Target) egress.Target {
		return link.TargetOf(wired(t, link.TargetMessage(v), &linkv1.Target{}))
	})
	crossed(t, func(v *core.Usage) core.Usage {
		return link.UsageOf(wired(t, link.UsageMessage(*v), &linkv1.UsageResponse{}))
	})
	crossed(t, func(v *backend.Image) backend.Image {
		return link.ImageOf(wired(t, link.ImageMessage(v), &linkv1.Image{}))
	})
	crossed(t, func(v *backend.FileInfo) backend.FileInfo {
		return *link.FileInfoOf(wired(t, link.FileInfoMessage(v), &linkv1.FileInfo{}))
	})
	crossed(t, func(v *backend.Work) backend.Work {
		return *link.WorkOf(wired(t, link.WorkMessage(v), &linkv1.Work{}))
	})
	crossed(t, func(v *backend.PoolStatus) backend.PoolStatus {
		return link.PoolStatusesOf([]*linkv1.PoolStatus{wired(t, link.PoolStatusMessages([]backend.PoolStatus{*v})[0], &linkv1.PoolStatus{})})[0]
	})
	crossed(t, func(v *runner.Pool) runner.Pool {
		out, err := link.PoolOf(wired(t, link.PoolMessage(v), &linkv1.Pool{}))
		if err != nil {
			t.Error(err)
		}
		return out
	})
	crossed(t, func(v *resolve.Input) resolve.Input {
		out, err := link.LayerOf(wired(t, link.LayerMessage(v), &linkv1.Layer{}))
		if err != nil {
			t.Error(err)
		}
		return out
	})
}

// TestErrorsCross with everything but their cause.
func TestErrorsCross(t *testing.T) {
	in := fault.Preconditionf(fault.ReasonBackendUnsupported, "no").WithField("a.b", "bad").WithHint("do it").WithMeta("k", "v").WithRetry(time.Second)
	out := link.FaultOf(wired(t, link.FaultMessage(in), &linkv1.Fault{}))
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	for c := fault.Internal; c <= fault.Unimplemented; c++ {
		if got := link.FaultOf(link.FaultMessage(fault.New(c, "R", "m"))); got.Code != c {
			t.Errorf("%s came as %s", c, got.Code)
		}
	}
	err := link.FromStatus(t.Context(), "r1", link.Status(in))
	if !fault.HasReason(err, fault.ReasonBackendUnsupported) || !fault.Is(err, fault.Precondition) {
		t.Errorf("over gRPC: %v", err)
	}
}

// TestObservationsThatCannotBe are not believed.
func TestObservationsThatCannotBe(t *testing.T) {
	now := time.Now()
	long := string(make([]byte, 1<<20))
	for name, m := range map[string]*linkv1.Observation{
		"no id": {Phase: "RUNNING"}, "a long id": {SandboxId: long, Phase: "RUNNING"}, "no phase": {SandboxId: "s"}, "another phase": {SandboxId: "s", Phase: "FLYING"},
	} {
		if o := link.ObservationOf(m, now); o != nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
	m := &linkv1.Observation{
		SandboxId: "s", Phase: "ENDED", At: link.Stamp(now.Add(time.Hour)), StartedAt: link.Stamp(now.Add(time.Hour)), Reason: long, Message: long, SubmittedJson: []byte("{"),
	}
	for range 10_000 {
		m.Events = append(m.Events, &linkv1.Event{Name: long[:10], At: link.Stamp(now.Add(time.Hour))})
	}
	o := link.ObservationOf(m, now)
	if !o.At.Equal(now) || !o.StartedAt.Equal(now) || len(o.Reason) > 2*link.MaxText || len(o.Events) > 256 || o.Submitted != nil || !o.Events[0].At.Equal(now) {
		t.Errorf("at %s, started %s, %d bytes of reason, %d events, %q", o.At, o.StartedAt, len(o.Reason), len(o.Events), o.Submitted)
	}
}

func TestNegotiate(t *testing.T) {
	for _, tt := range []struct {
		gateway, runner link.Range
		want            int
		upgrade         string
	}{
		{link.Range{Min: 1, Max: 1}, link.Range{Min: 1, Max: 1}, 1, ""},
		{link.Range{Min: 2, Max: 3}, link.Range{Min: 1, Max: 2}, 2, ""},
		{link.Range{Min: 1, Max: 2}, link.Range{Min: 2, Max: 3}, 2, ""},
		{link.Range{Min: 3, Max: 4}, link.Range{Min: 1, Max: 2}, 0, "upgrade the runner"},
		{link.Range{Min: 1, Max: 2}, link.Range{Min: 3, Max: 4}, 0, "upgrade the gateway"},
	} {
		got, err := link.Negotiate(tt.gateway, tt.runner)
		if got != tt.want || (err == nil) != (tt.upgrade == "") {
			t.Errorf("%v with %v: %d, %v", tt.gateway, tt.runner, got, err)
		}
		if err != nil && fault.From(err).Hint[:len(tt.upgrade)] != tt.upgrade {
			t.Errorf("%s", fault.From(err).Hint)
		}
	}
	for _, text := range []string{"", "1", "a-b", "2-1", "0-1", "1-"} {
		if _, err := link.ParseRange(text); err == nil {
			t.Errorf("%q is a range", text)
		}
	}
}
