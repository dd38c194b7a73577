package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
)

// Limits of overrides.
const (
	// MaxEntries is how many entries a map or a list has.
	MaxEntries = 64
	// MaxValue is the longest value of an environment variable, an argument or an annotation, in bytes.
	MaxValue = 4 << 10
	// MaxReplicas is the largest number that scaling may name.
	MaxReplicas = 1000
)

// What a gateway may decide for a runner: the few arguments and variables of these. Whom the runner trusts, who it is, where its state is,
// and what its owner forbids is said by others, and so may be what a library adds later: one that sends traces, or reads a key from a file.
var (
	freeArgs = []string{"--verbose", "--log-format", "--output-retention", "--output-limit", "--kube-init"}
	freeVars = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "GOMEMLIMIT", "GOMAXPROCS", "GOGC", "TZ"}
)

// checker collects what is wrong with overrides.
type checker struct {
	e  *fault.Error
	at string
}

func (c *checker) wrong(path, format string, args ...any) {
	c.e.WithField(c.at+"."+path, format, args...)
}

// Check adds what is wrong with overrides, whose path is at, to e. Gateway and runner both call it: neither believes the other.
func (o *Overrides) Check(e *fault.Error, at string) {
	c := &checker{e, at}
	c.labels("node_selector", o.NodeSelector)
	c.labels("labels", o.Labels)
	c.keys("annotations", o.Annotations)
	for _, m := range []struct {
		path    string
		entries map[string]string
	}{{"labels", o.Labels}, {"annotations", o.Annotations}} {
		for _, k := range slices.Sorted(maps.Keys(m.entries)) {
			if rule := guard.Reserved(k); rule != "" {
				c.wrong(m.path+"["+k+"]", "is of %s, which is Kubernetes', Berm's or changes what a pod may do; a name of your own can be given, such as team or example.com/team", rule)
			}
		}
	}
	c.tolerations(o.Tolerations)
	c.resources(o.Resources)
	c.env(o.Env)
	c.args(o.Args)
	c.scaling(o.Scaling)
}

func (c *checker) few(path string, n int) {
	if n > MaxEntries {
		c.wrong(path, "has %d entries, more than %d", n, MaxEntries)
	}
}

// keys checks the keys of a map as Kubernetes does, and the length of its values.
func (c *checker) keys(path string, m map[string]string) {
	c.few(path, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if why := validation.IsQualifiedName(k); len(why) > 0 {
			c.wrong(fmt.Sprintf("%s[%.80s]", path, k), "is no key: %s", strings.Join(why, "; "))
		}
		c.short(path+"["+k+"]", m[k])
	}
}

func (c *checker) short(path, value string) {
	if len(value) > MaxValue || strings.ContainsRune(value, 0) {
		c.wrong(path, "has %d bytes, more than %d, or a NUL", len(value), MaxValue)
	}
}

func (c *checker) labels(path string, m map[string]string) {
	c.keys(path, m)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if why := validation.IsValidLabelValue(m[k]); len(why) > 0 {
			c.wrong(path+"["+k+"]", "%.80q is no value of a label: %s", m[k], strings.Join(why, "; "))
		}
	}
}

func (c *checker) tolerations(list []Toleration) {
	c.few("tolerations", len(list))
	for i, t := range list {
		at := fmt.Sprintf("tolerations[%d]", i)
		switch t.Operator {
		case "", "Equal":
			if t.Key == "" {
				c.wrong(at+".key", "must be given, unless the operator is Exists")
			}
		case "Exists":
			if t.Value != "" {
				c.wrong(at+".value", "is for the operator Equal: Exists takes any")
			}
		default:
			c.wrong(at+".operator", "%.40q is none of Equal, Exists", t.Operator)
		}
		if why := validation.IsQualifiedName(t.Key); t.Key != "" && len(why) > 0 {
			c.wrong(at+".key", "is no key: %s", strings.Join(why, "; "))
		}
		if why := validation.IsValidLabelValue(t.Value); len(why) > 0 {
			c.wrong(at+".value", "%s", strings.Join(why, "; "))
		}
		if !slices.Contains([]string{"", "NoSchedule", "PreferNoSchedule", "NoExecute"}, t.Effect) {
			c.wrong(at+".effect", "%.40q is none of NoSchedule, PreferNoSchedule, NoExecute", t.Effect)
		}
	}
}

func (c *checker) resources(r Resources) {
	c.amounts("cpu", r.CPURequest, r.CPULimit)
	c.amounts("memory", r.MemoryRequest, r.MemoryLimit)
}

func (c *checker) amounts(name, request, limit string) {
	a, gaveRequest := c.amount("resources."+name+"_request", request)
	b, gaveLimit := c.amount("resources."+name+"_limit", limit)
	if gaveRequest && gaveLimit && a.Cmp(b) > 0 {
		c.wrong("resources."+name+"_request", "%s is more than the limit, %s", request, limit)
	}
}

func (c *checker) amount(path, text string) (q resource.Quantity, given bool) {
	if text == "" {
		return q, false
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		c.wrong(path, "%.40q is no positive quantity, such as 500m or 1Gi", text)
		return q, false
	}
	return q, true
}

func (c *checker) env(env map[string]string) {
	c.few("env", len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		at := fmt.Sprintf("env[%.80s]", k)
		if !slices.Contains(freeVars, k) {
			c.wrong(at, "cannot be given to a runner from here: only %s; the others are its owner's to say", strings.Join(freeVars, ", "))
		}
		c.short(at, env[k])
	}
}

func (c *checker) args(args []string) {
	c.few("args", len(args))
	for i, a := range args {
		at := fmt.Sprintf("args[%d]", i)
		flag, _, _ := strings.Cut(a, "=")
		if !slices.Contains(freeArgs, flag) {
			c.wrong(at, "%.80q cannot be given to a runner from here: only %s, each as one word, --flag=value; the others are its owner's to say", a, strings.Join(freeArgs, ", "))
		}
		c.short(at, a)
	}
}

func (c *checker) scaling(s Scaling) {
	for _, f := range []struct {
		path string
		n    int32
	}{{"replicas", s.Replicas}, {"min_replicas", s.MinReplicas}, {"max_replicas", s.MaxReplicas}} {
		if f.n < 0 || f.n > MaxReplicas {
			c.wrong("scaling."+f.path, "%d is not from 0 to %d", f.n, MaxReplicas)
		}
	}
	if s.MaxReplicas > 0 && s.MinReplicas > s.MaxReplicas {
		c.wrong("scaling.min_replicas", "%d is more than max_replicas, %d", s.MinReplicas, s.MaxReplicas)
	}
	if s.AutoscalingEnabled && s.Replicas > 0 {
		c.wrong("scaling.replicas", "is for a runner without autoscaling")
	}
}
