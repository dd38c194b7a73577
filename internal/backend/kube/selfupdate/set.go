package selfupdate

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bermhq/berm/deploy"
	"github.com/bermhq/berm/internal/core/rollout"
)

const (
	// containerName is the container of the runner in its pod.
	containerName = "berm"
	// fieldManager owns what is applied: fields that are not applied any more go back to who has them besides.
	fieldManager = "berm-self-update"
)

// triedAnnotation is the annotation of the StatefulSet with the identity of what was applied last. It is not in the template: whoever
// undoes a rollout leaves it.
const triedAnnotation = "berm.dev/deployment-tried"

// change is what a StatefulSet is to be.
type change struct {
	spec     rollout.Spec
	revision int32
	identity string
}

// object is an object of Kubernetes as it is written. The types of all of them would be a good part of the program.
type object map[string]any

func (o object) at(path ...string) any {
	var at any = map[string]any(o)
	for _, name := range path {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	return at
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

// container is the runner's in the template of a StatefulSet, nil for none.
func (o object) container() map[string]any {
	list, _ := o.at("spec", "template", "spec", "containers").([]any)
	for _, v := range list {
		if c, ok := v.(map[string]any); ok && c["name"] == containerName {
			return c
		}
	}
	return nil
}

func (u *Updater) path() string {
	return "/apis/apps/v1/namespaces/" + u.cfg.State.Namespace + "/statefulsets/" + u.cfg.State.Name
}

func (u *Updater) get(ctx context.Context) (out object, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := u.cfg.Client.Get().AbsPath(u.path()).SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(raw, &out)
}

// apply makes the StatefulSet what is wanted. Everything that can be wanted is in it each time, so that what an override leaves again is
// what was installed.
func (u *Updater) apply(ctx context.Context, c change) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	metadata := map[string]any{"name": u.cfg.State.Name, "namespace": u.cfg.State.Namespace}
	if c.identity != "" {
		metadata["annotations"] = map[string]string{triedAnnotation: c.identity}
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata,
		"spec": map[string]any{"template": map[string]any{
			"metadata": map[string]any{"annotations": c.annotations(), "labels": c.spec.Labels},
			"spec":     c.pod(),
		}},
	})
	if err != nil {
		return err
	}
	return u.cfg.Client.Patch(types.ApplyYAMLPatchType).AbsPath(u.path()).Param("fieldManager", fieldManager).Param("force", "true").Param("fieldValidation", "Strict").
		SetHeader("Accept", "application/json").Body(body).Do(ctx).Error()
}

func (c change) annotations() map[string]string {
	out := map[string]string{deploy.RevisionAnnotation: strconv.Itoa(int(c.revision))}
	maps.Copy(out, c.spec.Annotations)
	return out
}

// pod is what a change says of the pod: of its container no more than the image, amounts and variables.
func (c change) pod() map[string]any {
	pod := map[string]any{"containers": []any{map[string]any{
		"name": containerName, "image": c.spec.Image, "resources": amounts(c.spec.Resources), "env": c.env(),
	}}}
	if len(c.spec.NodeSelector) > 0 {
		pod["nodeSelector"] = c.spec.NodeSelector
	}
	if len(c.spec.Tolerations) > 0 {
		pod["tolerations"] = c.spec.Tolerations
	}
	return pod
}

func amounts(r rollout.Resources) map[string]any {
	out := map[string]any{}
	for _, a := range deploy.Amounts(r) {
		of, _ := out[a.Kind].(map[string]string)
		if of == nil {
			of = map[string]string{}
			out[a.Kind] = of
		}
		of[a.Name] = a.Value
	}
	return out
}

// undone reports whether a deployment was applied before, and is not what the StatefulSet says any more.
func (o object) undone(identity string) bool {
	if identity == "" || o.text("metadata", "annotations", triedAnnotation) != identity {
		return false
	}
	list, _ := o.container()["env"].([]any)
	return !slices.ContainsFunc(list, func(v any) bool {
		m, _ := v.(map[string]any)
		return m["name"] == rollout.IdentityVar && m["value"] == identity
	})
}

// env are the variables of a change. Arguments are among them: those of the container are one list, which is the chart's.
func (c change) env() []any {
	out := []any{variable(rollout.ImageVar, c.spec.Image)}
	if c.identity != "" {
		out = append(out, variable(rollout.IdentityVar, c.identity))
	}
	for _, k := range slices.Sorted(maps.Keys(c.spec.Env)) {
		out = append(out, variable(k, c.spec.Env[k]))
	}
	if len(c.spec.Args) > 0 {
		text, err := json.Marshal(c.spec.Args)
		if err == nil { // A list of texts always has a JSON.
			out = append(out, variable(rollout.ArgsVar, string(text)))
		}
	}
	return out
}

func variable(name, value string) map[string]any {
	return map[string]any{"name": name, "value": value}
}

// problem says what an error of the API server means.
func (u *Updater) problem(err error, what string) *rollout.Problem {
	p := &rollout.Problem{Reason: ReasonFailed, Message: what, Detail: err.Error(), Hints: []string{"It is tried again in some minutes."}}
	switch {
	case errors.IsForbidden(err):
		p.Reason = ReasonForbidden
		p.Hints = []string{"Give the account of the runner what docs/kubernetes.md lists under permissions: helm upgrade with selfUpdate.enabled=true does."}
	case errors.IsNotFound(err):
		p.Hints = []string{"There is no StatefulSet " + u.cfg.State.Name + " in namespace " + u.cfg.State.Namespace + ": the file of --deployment names another than this pod is of."}
	case errors.IsInvalid(err):
		p.Hints = []string{"Kubernetes takes the overrides differently than Berm: change what it names."}
	}
	return p
}
