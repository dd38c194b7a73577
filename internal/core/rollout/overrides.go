package rollout

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// Overrides shape the deployment of a runner. The runtime classes, which stand beside them on the wire, are about its sandboxes.
type Overrides struct {
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	Tolerations  []Toleration      `json:"tolerations,omitempty"`
	Resources    Resources         `json:"resources,omitzero"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	Args         []string          `json:"args,omitempty"`
	Scaling      Scaling           `json:"scaling,omitzero"`
}

// Toleration is a Kubernetes toleration.
type Toleration struct {
	Key      string `json:"key,omitempty"`
	Operator string `json:"operator,omitempty"`
	Value    string `json:"value,omitempty"`
	Effect   string `json:"effect,omitempty"`
}

// Resources are the Kubernetes quantities of a process, "" for what is not said.
type Resources struct {
	CPURequest    string `json:"cpuRequest,omitempty"`
	MemoryRequest string `json:"memoryRequest,omitempty"`
	CPULimit      string `json:"cpuLimit,omitempty"`
	MemoryLimit   string `json:"memoryLimit,omitempty"`
}

// Scaling is how many processes are wanted. A runner of Berm is one.
type Scaling struct {
	Replicas           int32 `json:"replicas,omitempty"`
	AutoscalingEnabled bool  `json:"autoscalingEnabled,omitempty"`
	MinReplicas        int32 `json:"minReplicas,omitempty"`
	MaxReplicas        int32 `json:"maxReplicas,omitempty"`
}

func (r Resources) with(o Resources) Resources {
	return Resources{
		CPURequest: cmp.Or(o.CPURequest, r.CPURequest), MemoryRequest: cmp.Or(o.MemoryRequest, r.MemoryRequest),
		CPULimit: cmp.Or(o.CPULimit, r.CPULimit), MemoryLimit: cmp.Or(o.MemoryLimit, r.MemoryLimit),
	}
}

// ParseOverrides reads the canonical JSON of the wire message, "" for none.
func ParseOverrides(text string) (o Overrides, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &o)
	}
	return o, err
}

// JSON is what ParseOverrides reads, "" for none.
func (o *Overrides) JSON() string {
	text, err := json.Marshal(o)
	if err != nil || string(text) == "{}" {
		return ""
	}
	return string(text)
}

// Deployed lists the fields that are set and change a deployment. Scaling does not: Ignored tells of it.
func (o *Overrides) Deployed() (paths []string) {
	for _, f := range []struct {
		path string
		set  bool
	}{
		{"node_selector", len(o.NodeSelector) > 0}, {"tolerations", len(o.Tolerations) > 0}, {"resources", o.Resources != Resources{}},
		{"annotations", len(o.Annotations) > 0}, {"labels", len(o.Labels) > 0}, {"env", len(o.Env) > 0}, {"args", len(o.Args) > 0},
	} {
		if f.set {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// Ignored says which fields have no effect on any runner, and why; "" for none.
func (o *Overrides) Ignored() string {
	if s := o.Scaling; s.AutoscalingEnabled || max(s.Replicas, s.MinReplicas, s.MaxReplicas) > 1 {
		return "managed_spec.overrides.scaling is kept and has no effect: a cluster is one runner, and a runner is one process"
	}
	return ""
}

// SameDeployment reports whether two overrides make the same deployment.
func SameDeployment(a, b Overrides) bool {
	return maps.Equal(a.NodeSelector, b.NodeSelector) && slices.Equal(a.Tolerations, b.Tolerations) && a.Resources == b.Resources &&
		maps.Equal(a.Annotations, b.Annotations) && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Env, b.Env) && slices.Equal(a.Args, b.Args)
}
