package selfupdate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"

	"github.com/bermhq/berm/internal/core/rollout"
)

// CheckFlag has a runner read its flags and files, and end: what a rehearsal runs.
const CheckFlag = "--check-only"

// A StatefulSet ends its pod before it makes the next one, and a pod that does not start stays: nobody would be there to tell. So a
// change is rehearsed: a pod with the image, the flags, the volume, the place and the amounts of the next one, without the account's
// token and the enrolment's, reads its flags and ends. It costs no permission: a runner makes pods.

func (u *Updater) rehearsalName() string { return u.cfg.State.Name + "-rehearsal" }

func (u *Updater) pods() string { return "/api/v1/namespaces/" + u.cfg.State.Namespace + "/pods" }

// rehearse says why a change would not work, nil when it did here.
func (u *Updater) rehearse(ctx context.Context, set object, c change) *rollout.Problem {
	pod, err := u.rehearsal(set, c)
	if err != nil {
		return u.problem(err, "the pod that tries it cannot be made")
	}
	defer u.remove(context.WithoutCancel(ctx))
	u.remove(ctx) // One of before.
	if err := u.makePod(ctx, pod); err != nil {
		return u.problem(err, "the pod that tries it cannot be made")
	}
	return u.watch(ctx)
}

// rehearsal is the pod.
func (u *Updater) rehearsal(set object, c change) (object, error) {
	spec, err := clone(set.at("spec", "template", "spec"))
	if err != nil {
		return nil, err
	}
	containers, _ := spec["containers"].([]any)
	maps.Copy(spec, without(c.pod(), "containers"))
	for _, v := range containers {
		if one, ok := v.(map[string]any); ok && one["name"] == containerName {
			one["image"], one["resources"] = c.spec.Image, merged(one["resources"], amounts(c.spec.Resources))
			one["env"] = variables(one["env"], c.env())
			args, _ := one["args"].([]any)
			one["args"] = append(args, CheckFlag)
			one["terminationMessagePolicy"] = "FallbackToLogsOnError" // What it printed is then in its status.
			spec["containers"] = []any{one}
		}
	}
	volumes, _ := spec["volumes"].([]any)
	spec["volumes"] = append(volumes, u.claims(set)...)
	spec["restartPolicy"], spec["automountServiceAccountToken"] = "Never", false
	spec["activeDeadlineSeconds"], spec["terminationGracePeriodSeconds"] = int64(u.cfg.RehearseTimeout/time.Second)+1, 0
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": u.rehearsalName(), "namespace": u.cfg.State.Namespace,
			// Not those of the StatefulSet: it would take the pod for one of its own.
			"labels":          map[string]string{"app.kubernetes.io/name": "berm-rehearsal", "app.kubernetes.io/part-of": "berm"},
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": u.cfg.State.Name, "uid": set.text("metadata", "uid")}},
		},
		"spec": spec,
	}, nil
}

// claims are the volumes that the StatefulSet makes for its pod: the next one has to be where they are.
func (u *Updater) claims(set object) (out []any) {
	list, _ := set.at("spec", "volumeClaimTemplates").([]any)
	for _, v := range list {
		template, _ := v.(map[string]any)
		name := object(template).text("metadata", "name")
		out = append(out, map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name + "-" + u.cfg.State.Name + "-0", "readOnly": true}})
	}
	return out
}

// variables are those of a container with others in their place. The token that enrols is none of them: nothing enrols.
func variables(had any, set []any) (out []any) {
	names := map[any]bool{"BERM_RUNNER_TOKEN": true}
	for _, v := range set {
		if m, ok := v.(map[string]any); ok {
			names[m["name"]] = true
		}
	}
	list, _ := had.([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok && !names[m["name"]] {
			out = append(out, m)
		}
	}
	return append(out, set...)
}

// merged are the amounts of a container with others in their place.
func merged(had any, set map[string]any) map[string]any {
	out := map[string]any{}
	all, _ := had.(map[string]any)
	for kind, v := range all {
		of := map[string]any{}
		m, _ := v.(map[string]any)
		maps.Copy(of, m)
		out[kind] = of
	}
	for kind, v := range set {
		of, _ := out[kind].(map[string]any)
		if of == nil {
			of = map[string]any{}
			out[kind] = of
		}
		m, _ := v.(map[string]string)
		for k, amount := range m {
			of[k] = amount
		}
	}
	return out
}

func without(m map[string]any, name string) map[string]any {
	delete(m, name)
	return m
}

func clone(v any) (out map[string]any, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(raw, &out)
}

func (u *Updater) makePod(ctx context.Context, pod object) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	for {
		err = u.cfg.Client.Post().AbsPath(u.pods()).Param("fieldManager", fieldManager).SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").
			Body(body).Do(ctx).Error()
		if !errors.IsAlreadyExists(err) { // The one of before is being removed.
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(u.cfg.LookEvery):
		}
	}
}

func (u *Updater) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := u.cfg.Client.Delete().AbsPath(u.pods()+"/"+u.rehearsalName()).SetHeader("Accept", "application/json").Do(ctx).Error()
	if err != nil && !errors.IsNotFound(err) {
		u.cfg.Logger.WarnContext(ctx, "the pod of a rehearsal could not be removed", "pod", u.rehearsalName(), "error", err)
	}
}

// watch waits for the end of the rehearsal.
func (u *Updater) watch(ctx context.Context) *rollout.Problem {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.RehearseTimeout)
	defer cancel()
	var last object
	for {
		pod, err := u.seen(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			u.cfg.Logger.WarnContext(ctx, "the pod of a rehearsal could not be looked at", "error", err)
		case pod != nil:
			last = pod
			if done, p := verdict(pod); done {
				return p
			}
		}
		select {
		case <-ctx.Done():
			return tooLong(last, u.cfg.RehearseTimeout)
		case <-time.After(u.cfg.LookEvery):
		}
	}
}

// seen lists the pod: a runner may list pods, and not get one.
func (u *Updater) seen(ctx context.Context) (object, error) {
	raw, err := u.cfg.Client.Get().AbsPath(u.pods()).Param("fieldSelector", "metadata.name="+u.rehearsalName()).SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	var list struct{ Items []object }
	if err := json.Unmarshal(raw, &list); err != nil || len(list.Items) == 0 {
		return nil, err
	}
	return list.Items[0], nil
}

// verdict says whether a rehearsal is over, and what is wrong with it.
func verdict(pod object) (done bool, p *rollout.Problem) {
	waiting, ended := containerOf(pod)
	switch pod.text("status", "phase") {
	case "Succeeded":
		return true, nil
	case "Failed":
		detail := ended.text("message")
		if detail == "" {
			detail = fmt.Sprintf("exit code %v, %s %s", ended["exitCode"], pod.text("status", "reason"), pod.text("status", "message"))
		}
		return true, &rollout.Problem{
			Reason: ReasonRehearsalFailed, Message: "the new version does not start with this deployment", Detail: detail,
			Hints: []string{"Look at the image and at args and env of the overrides: the pod that tried it could not read its flags."},
		}
	}
	switch reason := waiting.text("reason"); reason {
	case "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError":
		p := &rollout.Problem{Reason: ReasonImagePullFailed, Message: "the image cannot be pulled", Detail: waiting.text("message"), Hints: []string{"Push it to where the nodes pull from, or see to their access."}}
		if reason == "CreateContainerConfigError" || reason == "CreateContainerError" {
			p.Reason, p.Message, p.Hints = ReasonRehearsalFailed, "the container cannot be made", []string{"Look at the overrides."}
		}
		return true, p
	}
	return false, nil
}

// containerOf returns what the container waits for and how it ended.
func containerOf(pod object) (waiting, ended object) {
	list, _ := pod.at("status", "containerStatuses").([]any)
	for _, v := range list {
		c, _ := v.(map[string]any)
		w, _ := object(c).at("state", "waiting").(map[string]any)
		e, _ := object(c).at("state", "terminated").(map[string]any)
		return w, e
	}
	return nil, nil
}

// tooLong says what a pod waited for in vain.
func tooLong(pod object, after time.Duration) *rollout.Problem {
	conditions, _ := pod.at("status", "conditions").([]any)
	for _, v := range conditions {
		c, _ := v.(map[string]any)
		if o := object(c); o.text("type") == "PodScheduled" && o.text("status") == "False" {
			return &rollout.Problem{
				Reason: ReasonUnschedulable, Message: "no node takes the new pod beside the one that runs", Detail: o.text("message"),
				Hints: []string{"Look at node_selector, tolerations and resources of the overrides. Where there is room for one pod alone, change the release of the chart by hand."},
			}
		}
	}
	waiting, _ := containerOf(pod)
	return &rollout.Problem{
		Reason: ReasonRehearsalFailed, Message: "the pod that tries it did not come to an end within " + after.String(), Detail: waiting.text("reason") + " " + waiting.text("message"),
		Hints: []string{"Its volume may not be had on two nodes at once, or its image be large. Change the release of the chart by hand where that is so."},
	}
}
