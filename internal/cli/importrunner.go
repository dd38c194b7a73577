package cli

import (
	"slices"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// runner makes a document of a managed runner.
func (im *importer) runner(n *tree.Node) error {
	identity := field(n, "identity")
	id := ""
	if identity != nil {
		id = textOf(identity, "runner_id")
	}
	im.object = "runner " + id
	if id == "" {
		return misplaced(n, "identity.runner_id", "must be the name of the runner")
	}
	if err := spec.CheckName("", id); err != nil {
		return misplaced(field(identity, "runner_id"), "identity.runner_id", "%s", fault.From(err).Fields[0].Description)
	}
	if err := im.once(n, "identity.runner_id", im.object); err != nil {
		return err
	}
	out := &tree.Node{Kind: tree.Object}
	for _, k := range n.Keys {
		var v *tree.Node
		var err error
		switch name := tree.Camel(k.Name); name {
		case "displayName":
			v = k.Value
			im.say(importKept, k.Name, string(v.JSON()), "", "")
		case "identity":
			v = im.identity(k.Value)
		case "managedSpec":
			v = im.message(k.Value)
		case "profileBindings":
			v, err = im.bindings(k.Value)
		case "managementMode":
			if k.Value.Text == "MANAGEMENT_MODE_MANAGED" {
				im.say(importState, k.Name, k.Value.Text, "", "every runner is managed here")
			} else {
				im.say(importUnsupported, k.Name, k.Value.Text, "", "every runner is managed here: left out")
			}
			continue
		default:
			im.rest(k, "id", "organizationId", "createdAt", "updatedAt", "etag", "revision", "warnings", "installStatus", "installError", "connectionStatus", "activeConfigVersion",
				"activeProfileSpecVersion", "activeRevision", "targetRevision", "updateAvailable", "rolloutInProgress", "deploymentSpec", "lastHeartbeatAt", "isShared")
			continue
		}
		if err != nil {
			return err
		}
		out.Keys = append(out.Keys, tree.Key{Name: tree.Camel(k.Name), Value: v})
	}
	im.all = append(im.all, exported{"runner", id, kinded("runner", runnerBody(out, im.names))})
	return nil
}

// identity keeps one of the two names of a cluster: answers have both.
func (im *importer) identity(n *tree.Node) *tree.Node {
	out := &tree.Node{Kind: tree.Object}
	both := textOf(n, "cluster_id") != "" && textOf(n, "cluster_name") != ""
	for _, k := range n.Keys {
		path := "identity." + k.Name
		switch name := tree.Camel(k.Name); {
		case name == "clusterId" && both:
			im.say(importChanged, path, k.Value.Text, "", "a runner names its cluster by one of cluster_id and cluster_name: the name stays")
		case slices.Contains([]string{"runnerId", "zone", "clusterId", "clusterName", "runnerGroupId"}, name):
			out.Keys = append(out.Keys, tree.Key{Name: name, Value: k.Value})
			im.say(importKept, path, k.Value.Text, "", "")
		default:
			im.say(importUnsupported, path, string(k.Value.JSON()), "", "there is no such field here: left out, nothing stands for it")
		}
	}
	return out
}

// message reads the managed spec, without what is not known here.
func (im *importer) message(n *tree.Node) *tree.Node {
	const at = "managed_spec"
	for range maxImportDrops {
		_, err := tree.Decode(n, &v1beta2pb.ManagedRunnerSpec{})
		if err == nil {
			break
		}
		dropped := false
		for _, v := range fault.From(err).Fields {
			if from, ok := dropPath(n, v.Path); ok {
				im.say(importUnsupported, tree.Join(at, v.Path), from, "", "%s", leftOut(v, "it has its default"))
				dropped = true
			}
		}
		if !dropped {
			im.say(importUnsupported, at, string(n.JSON()), "", "%v: left out", err)
			return &tree.Node{Kind: tree.Object}
		}
	}
	for _, k := range n.Keys {
		im.say(importKept, tree.Join(at, k.Name), string(k.Value.JSON()), "", "")
	}
	return n
}
