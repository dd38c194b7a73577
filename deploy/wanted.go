package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// Upgrade returns the command that makes a release of the chart what is wanted. What it does not name stays as it is.
func Upgrade(namespace, release string, w rollout.Wanted) string {
	words := []string{"helm", "upgrade", release, Chart, "--namespace", namespace, "--reset-then-reuse-values"}
	if w.Image != "" {
		words = append(words, "--set", "image="+w.Image)
	}
	return line(append(words, values(w)...))
}

// values are the values of the chart that a wanted deployment comes to.
func values(w rollout.Wanted) (words []string) {
	o := w.Overrides
	set := func(name string, value any, given bool) {
		if given {
			words = append(words, "--set-json", name+"="+jsonOf(value))
		}
	}
	set("nodeSelector", o.NodeSelector, len(o.NodeSelector) > 0)
	set("tolerations", o.Tolerations, len(o.Tolerations) > 0)
	for _, r := range Amounts(o.Resources) {
		set("resources."+r.Kind+"."+r.Name, r.Value, true)
	}
	set("podAnnotations", o.Annotations, len(o.Annotations) > 0)
	set("podLabels", o.Labels, len(o.Labels) > 0)
	set("env", o.Env, len(o.Env) > 0)
	set("extraArgs", o.Args, len(o.Args) > 0)
	if w.Revision > 1 {
		words = append(words, "--set", "revision="+strconv.Itoa(int(w.Revision)))
	}
	return words
}

// Amount is one quantity, as Kubernetes has it: of requests or limits, of cpu or memory.
type Amount struct{ Kind, Name, Value string }

// Amounts are those that are said.
func Amounts(r rollout.Resources) []Amount {
	all := []Amount{
		{"requests", "cpu", r.CPURequest}, {"requests", "memory", r.MemoryRequest}, {"limits", "cpu", r.CPULimit}, {"limits", "memory", r.MemoryLimit},
	}
	return slices.DeleteFunc(all, func(a Amount) bool { return a.Value == "" })
}

func jsonOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "null" // Maps, lists and texts alone come here.
	}
	return string(raw)
}

// Environment returns what a shell sets before `berm runner` for a wanted deployment on a machine, NAME=VALUE, and its arguments.
func Environment(w rollout.Wanted) (env, args []string) {
	for _, k := range slices.Sorted(maps.Keys(w.Overrides.Env)) {
		env = append(env, k+"="+quoted(w.Overrides.Env[k]))
	}
	if w.Revision > 1 {
		env = append(env, fmt.Sprintf("%s=%d", rollout.RevisionVar, w.Revision))
	}
	for _, a := range w.Overrides.Args {
		args = append(args, quoted(a))
	}
	return env, args
}

// statefulSetStart is where the StatefulSet begins in the manifest of a runner.
const statefulSetStart = "apiVersion: apps/v1\nkind: StatefulSet\n"

// wanted makes the StatefulSet in a manifest what is wanted. Without anything wanted the text stays as it is, comments included.
func wanted(manifest string, w rollout.Wanted) (string, error) {
	if w.Revision <= 1 && len(w.Overrides.Deployed()) == 0 {
		return manifest, nil
	}
	before, rest, ok := strings.Cut(manifest, statefulSetStart)
	if !ok {
		return "", fault.Internalf(nil, "the manifest of a runner has no StatefulSet")
	}
	text, after, more := strings.Cut(rest, "\n---\n")
	var set map[string]any
	if err := yaml.Unmarshal([]byte(statefulSetStart+text), &set); err != nil {
		return "", fault.Internalf(err, "the manifest of a runner cannot be read")
	}
	if err := patch(set, w); err != nil {
		return "", err
	}
	raw, err := yaml.Marshal(set)
	if err != nil {
		return "", fault.Internalf(err, "the manifest of a runner cannot be written")
	}
	if more {
		after = "---\n" + after
	}
	return before + string(raw) + after, nil
}

// patch makes a StatefulSet, as it is decoded from a manifest, what is wanted besides its image.
func patch(set map[string]any, w rollout.Wanted) error {
	template, pod, container, err := parts(set)
	if err != nil {
		return err
	}
	o := w.Overrides
	meta := child(template, "metadata")
	merge(child(meta, "labels"), o.Labels)
	merge(child(meta, "annotations"), o.Annotations)
	if len(o.NodeSelector) > 0 {
		pod["nodeSelector"] = o.NodeSelector
	}
	if len(o.Tolerations) > 0 {
		pod["tolerations"] = o.Tolerations
	}
	for _, a := range Amounts(o.Resources) {
		child(child(container, "resources"), a.Kind)[a.Name] = a.Value
	}
	for _, a := range o.Args {
		args, _ := container["args"].([]any)
		container["args"] = append(args, a)
	}
	for _, k := range slices.Sorted(maps.Keys(o.Env)) {
		env, _ := container["env"].([]any)
		container["env"] = append(env, map[string]any{"name": k, "value": o.Env[k]})
	}
	if w.Revision > 1 {
		child(meta, "annotations")[RevisionAnnotation] = strconv.Itoa(int(w.Revision))
	}
	return nil
}

// RevisionAnnotation is the annotation of the pod that has the revision of its deployment. The process gets it in rollout.RevisionVar.
const RevisionAnnotation = "berm.dev/deployment-revision"

// parts returns the template, its pod and Berm's container in it.
func parts(set map[string]any) (template, pod, container map[string]any, err error) {
	template = child(child(set, "spec"), "template")
	pod = child(template, "spec")
	list, _ := pod["containers"].([]any)
	if len(list) != 1 {
		return nil, nil, nil, fault.Internalf(nil, "the StatefulSet of a runner has %d containers", len(list))
	}
	container, ok := list[0].(map[string]any)
	if !ok {
		return nil, nil, nil, fault.Internalf(nil, "the container of a runner is no object")
	}
	return template, pod, container, nil
}

// child is an object in another; it is made where there is none.
func child(of map[string]any, name string) map[string]any {
	c, ok := of[name].(map[string]any)
	if !ok {
		c = map[string]any{}
		of[name] = c
	}
	return c
}

func merge(into map[string]any, from map[string]string) {
	for k, v := range from {
		into[k] = v
	}
}
