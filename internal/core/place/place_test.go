package place

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core"
)

func host(edit func(*Host)) *Host {
	h := &Host{
		ID: "r", Connected: true, Architecture: "amd64", RuntimeClasses: []string{"crun", "gvisor"}, NodeLabels: map[string]string{"disk": "ssd", LabelInstanceType: "cpu.small"},
		Features: []string{"egress:none", "image:host"}, Capacity: core.Amounts{CPUMillis: 4000, MemoryBytes: 8 << 30, GPUs: 2, Sandboxes: 10},
		Used: core.Amounts{CPUMillis: 1000, MemoryBytes: 4 << 30, Sandboxes: 3},
	}
	if edit != nil {
		edit(h)
	}
	return h
}

func TestFits(t *testing.T) {
	tests := []struct {
		name string
		host func(*Host)
		need Need
		want []string
	}{
		{"nothing asked", nil, Need{}, nil},
		{"all of it fits", nil, Need{Reserve: core.Amounts{CPUMillis: 3000, MemoryBytes: 4 << 30, GPUs: 2, Sandboxes: 1}, RuntimeClass: "gvisor", NodeSelector: map[string]string{"disk": "ssd", LabelArch: "amd64"},
			InstanceTypes: []string{"cpu.large", "cpu.small"}, Features: []string{"egress:none"}}, nil},
		{"a runtime class that is not there", nil, Need{RuntimeClass: "kata"}, []string{"RUNTIME_CLASS runtime_class kata>crun, gvisor"}},
		{"runtime classes unknown", func(h *Host) { h.RuntimeClasses = nil }, Need{RuntimeClass: "kata"}, nil},
		{"labels", nil, Need{NodeSelector: map[string]string{"disk": "hdd", "gpu": "h100", LabelArch: "arm64"}}, []string{
			"NODE_LABELS node_selector[disk] hdd>ssd", "NODE_LABELS node_selector[gpu] h100>", "ARCHITECTURE node_selector[kubernetes.io/arch] arm64>amd64"}},
		{"labels unknown, architecture known", func(h *Host) { h.NodeLabels = nil }, Need{NodeSelector: map[string]string{"disk": "hdd", LabelArch: "arm64"}}, []string{
			"ARCHITECTURE node_selector[kubernetes.io/arch] arm64>amd64"}},
		{"nothing known", func(h *Host) { h.NodeLabels, h.Architecture = nil, "" }, Need{NodeSelector: map[string]string{"disk": "hdd", LabelArch: "arm64"}}, nil},
		{"no labels at all is known", func(h *Host) { h.NodeLabels = map[string]string{} }, Need{NodeSelector: map[string]string{"disk": "ssd"}}, []string{"NODE_LABELS node_selector[disk] ssd>"}},
		{"instance type", nil, Need{InstanceTypes: []string{"h100"}}, []string{"INSTANCE_TYPE instance_types h100>cpu.small"}},
		{"instance type unknown", func(h *Host) { delete(h.NodeLabels, LabelInstanceType) }, Need{InstanceTypes: []string{"h100"}}, nil},
		{"a feature that is not there", nil, Need{Features: []string{"egress:internet"}}, []string{"FEATURE  egress:internet>"}},
		{"a family that nobody speaks of", nil, Need{Features: []string{"gpu:mig"}}, nil},
		{"full", nil, Need{Reserve: core.Amounts{CPUMillis: 3001, MemoryBytes: 5 << 30, Sandboxes: 1}}, []string{
			"CAPACITY resource_defaults.cpu_request 3001m>3", "CAPACITY resource_defaults.memory_request 5Gi>4Gi"}},
		{"too large", nil, Need{Reserve: core.Amounts{CPUMillis: 4001, GPUs: 3}}, []string{"TOO_LARGE resource_defaults.cpu_request 4001m>4", "TOO_LARGE resource_defaults.gpu 3>2"}},
		{"no more sandboxes", func(h *Host) { h.Used.Sandboxes = 10 }, Need{Reserve: core.Amounts{Sandboxes: 1}}, []string{"CAPACITY  1>0"}},
		{"an overfull runner takes what needs nothing", func(h *Host) { h.Used.CPUMillis = 9000 }, Need{Reserve: core.Amounts{Sandboxes: 1}}, nil},
		{"amounts near the end of the range", nil, Need{Reserve: core.Amounts{CPUMillis: 1<<63 - 1, MemoryBytes: 1<<63 - 1}}, []string{
			"TOO_LARGE resource_defaults.cpu_request 9223372036854775807m>4", "TOO_LARGE resource_defaults.memory_request 9223372036854775807>8Gi"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range Fits(host(tt.host), &tt.need) {
				got = append(got, fmt.Sprintf("%s %s %s>%s", r.Code, r.Path, r.Value, r.Limit))
				if r.Message == "" {
					t.Errorf("%s has no message", r.Code)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

func TestAvailable(t *testing.T) {
	if got := Available(host(nil)); got != nil {
		t.Error(got)
	}
	out := Available(host(func(h *Host) { h.Connected, h.Cordoned, h.CordonNote = false, true, "upgrading" }))
	if len(out) != 2 || out[0].Code != CodeDisconnected || out[1].Code != CodeCordoned || !strings.Contains(out[1].Message, "upgrading") {
		t.Error(out)
	}
}

func TestOnlyCapacity(t *testing.T) {
	for _, tt := range []struct {
		codes []Code
		want  bool
	}{
		{nil, false}, {[]Code{CodeCapacity}, true}, {[]Code{CodeTooLarge, CodeCapacity}, true}, {[]Code{CodeCapacity, CodeFeature}, false},
	} {
		var reasons []Reason
		for _, c := range tt.codes {
			reasons = append(reasons, Reason{Code: c})
		}
		if OnlyCapacity(reasons) != tt.want {
			t.Errorf("%v: want %v", tt.codes, tt.want)
		}
	}
}

func drawHost(t *rapid.T, label string) *Host {
	amounts := func(name string, most int64) core.Amounts {
		draw := func(part string) int64 { return rapid.Int64Range(0, most).Draw(t, label+name+part) }
		return core.Amounts{CPUMillis: draw("cpu"), MemoryBytes: draw("memory"), GPUs: draw("gpus"), Sandboxes: draw("sandboxes")}
	}
	pick := func(name string, values ...string) []string {
		return rapid.SliceOfDistinct(rapid.SampledFrom(values), rapid.ID[string]).Draw(t, label+name)
	}
	h := &Host{ID: label, Connected: true, Capacity: amounts("capacity", 20), Used: amounts("used", 10), RuntimeClasses: pick("classes", "a", "b"), Features: pick("features", "x:1", "x:2", "y:1")}
	h.Architecture = rapid.SampledFrom([]string{"", "amd64", "arm64"}).Draw(t, label+"arch")
	if rapid.Bool().Draw(t, label+"labelled") {
		h.NodeLabels = rapid.MapOf(rapid.SampledFrom([]string{"l", "m", LabelInstanceType, LabelArch}), rapid.SampledFrom([]string{"1", "2", "amd64"})).Draw(t, label+"labels")
	}
	return h
}

func drawNeed(t *rapid.T) *Need {
	n := &Need{RuntimeClass: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "class"), Features: rapid.SliceOf(rapid.SampledFrom([]string{"x:1", "y:2", "z:1"})).Draw(t, "needs")}
	n.Reserve = core.Amounts{CPUMillis: rapid.Int64Range(0, 12).Draw(t, "cpu"), MemoryBytes: rapid.Int64Range(0, 12).Draw(t, "memory"), GPUs: rapid.Int64Range(0, 2).Draw(t, "gpus"), Sandboxes: 1}
	n.NodeSelector = rapid.MapOf(rapid.SampledFrom([]string{"l", LabelArch}), rapid.SampledFrom([]string{"1", "amd64"})).Draw(t, "selector")
	n.InstanceTypes = rapid.SliceOf(rapid.SampledFrom([]string{"1", "2"})).Draw(t, "types")
	return n
}

func TestMoreCapacityNeverHurts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, n := drawHost(t, "r"), drawNeed(t)
		before := Fits(h, n)
		more := *h
		more.Capacity.CPUMillis += rapid.Int64Range(0, 5).Draw(t, "more cpu")
		more.Capacity.MemoryBytes += rapid.Int64Range(0, 5).Draw(t, "more memory")
		more.Capacity.GPUs += rapid.Int64Range(0, 5).Draw(t, "more gpus")
		more.Capacity.Sandboxes += rapid.Int64Range(0, 5).Draw(t, "more sandboxes")
		if after := Fits(&more, n); len(after) > len(before) {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

func TestFitsIsWhatTheStoreReserves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, n := drawHost(t, "r"), &Need{}
		n.Reserve = drawNeed(t).Reserve
		// The store's rule: used + x <= capacity, for everything that is asked for.
		ok := func(used, x, total int64) bool { return x == 0 || used+x <= total }
		want := ok(h.Used.CPUMillis, n.Reserve.CPUMillis, h.Capacity.CPUMillis) && ok(h.Used.MemoryBytes, n.Reserve.MemoryBytes, h.Capacity.MemoryBytes) &&
			ok(h.Used.GPUs, n.Reserve.GPUs, h.Capacity.GPUs) && ok(h.Used.Sandboxes, n.Reserve.Sandboxes, h.Capacity.Sandboxes)
		if got := Fits(h, n); (len(got) == 0) != want {
			t.Fatalf("want fits %v, got %v", want, got)
		}
	})
}

func TestScoreIsBetween0And1(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, n := drawHost(t, "r"), drawNeed(t)
		if s := Score(h, n); s < 0 || s > 1 {
			t.Fatal(s)
		}
	})
}

func TestScoreOrder(t *testing.T) {
	need := &Need{Reserve: core.Amounts{CPUMillis: 1000, Sandboxes: 1}}
	better := func(what string, a, b func(*Host)) {
		if x, y := Score(host(a), need), Score(host(b), need); x <= y {
			t.Errorf("%s: %v is not above %v", what, x, y)
		}
	}
	better("more room", func(h *Host) { h.Used.CPUMillis, h.Used.MemoryBytes = 0, 0 }, nil)
	better("the scarcest resource counts", nil, func(h *Host) { h.Used.MemoryBytes = 7 << 30 })
	better("fewer sandboxes", func(h *Host) { h.Used.Sandboxes = 0 }, nil)
}

func drawOptions(t *rapid.T) []Option {
	names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,3}`), rapid.ID[string]).Draw(t, "names")
	out := make([]Option, len(names))
	for i, n := range names {
		out[i] = Option{ID: n, Score: float64(rapid.IntRange(0, 3).Draw(t, n))}
	}
	return out
}

func chosen(seed uint64, options []Option) [2]string {
	var out [2]string
	for i, at := range func() []int { w, o := Choose(seed, options); return []int{w, o} }() {
		if at >= 0 {
			out[i] = options[at].ID
		}
	}
	return out
}

func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options, seed := drawOptions(t), rapid.Uint64().Draw(t, "seed")
		if a, b := chosen(seed, options), chosen(seed, rapid.Permutation(options).Draw(t, "order")); a != b {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

func TestOthersDoNotMatter(t *testing.T) {
	// Taking away a runner that was not compared changes nothing: one that is full never moves another launch.
	rapid.Check(t, func(t *rapid.T) {
		options, seed := drawOptions(t), rapid.Uint64().Draw(t, "seed")
		before := chosen(seed, options)
		for i, o := range options {
			if o.ID == before[0] || o.ID == before[1] {
				continue
			}
			if after := chosen(seed, slices.Delete(slices.Clone(options), i, i+1)); after != before {
				t.Fatalf("without %s: %v, with it: %v", o.ID, after, before)
			}
		}
	})
}

func TestTheWinnerIsBetter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options, seed := drawOptions(t), rapid.Uint64().Draw(t, "seed")
		winner, other := Choose(seed, options)
		switch {
		case len(options) == 0 && winner >= 0, len(options) > 0 && winner < 0, len(options) > 1 && other < 0:
			t.Fatalf("%d options, chose %d and %d", len(options), winner, other)
		case other >= 0 && !Better(options[winner], options[other]):
			t.Fatalf("%v lost to %v", options[other], options[winner])
		}
	})
}

func TestTiesGoByName(t *testing.T) {
	for seed := range uint64(50) {
		options := []Option{{ID: "b", Score: 1}, {ID: "a", Score: 1}}
		if winner, _ := Choose(seed, options); options[winner].ID != "a" {
			t.Fatalf("seed %d: %s won a tie", seed, options[winner].ID)
		}
	}
}

func TestDrawsAreSpread(t *testing.T) {
	// Equal runners share the load: over many seeds each of eight is chosen about as often.
	options := make([]Option, 8)
	for i := range options {
		options[i].ID = fmt.Sprintf("runner-%d", i)
	}
	counts := make([]int, len(options))
	const launches = 8000
	for seed := range uint64(launches) {
		_, other := Choose(seed, options)
		counts[other]++
		winner, _ := Choose(seed, options)
		counts[winner]++
	}
	for i, n := range counts {
		if mean := 2 * launches / len(options); n < mean*8/10 || n > mean*12/10 {
			t.Errorf("%s was drawn %d times, the mean is %d", options[i].ID, n, mean)
		}
	}
}

func BenchmarkChoose100(b *testing.B) {
	options := make([]Option, 100)
	for i := range options {
		options[i].ID = fmt.Sprintf("runner-%03d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		Choose(uint64(i), options)
	}
}

// TestProven: what a runner does not say to have tried is not proven, and the refusal says what is.
func TestProven(t *testing.T) {
	need := &Need{Features: []string{"egress:internet", "proven:internet"}, Reserve: core.Amounts{Sandboxes: 1}}
	for limit, features := range map[string][]string{
		"":                {"egress:internet", "proven:none", "proven:internet"},
		"none, allowlist": {"egress:internet", "proven:none", "proven:allowlist"},
		"none":            nil,
	} {
		h := &Host{Features: features, Capacity: core.Amounts{Sandboxes: 1}}
		reasons := Fits(h, need)
		if limit == "" {
			if len(reasons) != 0 {
				t.Errorf("%v: %+v", features, reasons)
			}
			continue
		}
		if len(reasons) != 1 || reasons[0].Code != CodeFeature || reasons[0].Path != "network.egress.require" || reasons[0].Limit != limit {
			t.Errorf("%v: %+v", features, reasons)
		}
	}
}
