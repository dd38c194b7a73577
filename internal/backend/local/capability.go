package local

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/egress"
)

// Names of features.
const (
	featureSandboxes = "sandboxes"
	featureHost      = "image:host"
	featureLayout    = "image:oci-layout"
	featureRegistry  = "image:registry"
	featureEgress    = "egress:none"
	featureNetwork   = "egress:network"
	featureNetwork6  = "egress:ipv6"
	featureCPU       = "cgroup:cpu"
	featureMemory    = "cgroup:memory"
	featurePIDs      = "cgroup:pids"
	featurePause     = "pause"
	featureDisk      = "disk"
)

// Capability is one row of the table of what works on this machine: what `berm serve` prints.
type Capability struct {
	// Feature is a stable name, Title says it in words.
	Feature, Title string
	Works          bool
	// Reason says why it does not work, or how far it does.
	Reason string
}

// String returns the row as text.
func (c Capability) String() string {
	verdict := "works"
	if !c.Works {
		verdict = "refused"
	}
	if c.Reason == "" {
		return fmt.Sprintf("%-18s %-8s %s", c.Feature, verdict, c.Title)
	}
	return fmt.Sprintf("%-18s %-8s %s: %s", c.Feature, verdict, c.Title, c.Reason)
}

// Capabilities returns the table, in a fixed order.
func (b *Backend) Capabilities() []Capability { return slices.Clone(b.caps) }

// later are features that no machine has yet, with what to do meanwhile.
func later() []Capability {
	return []Capability{
		{Feature: "gpu", Title: "GPUs", Reason: "this backend gives none"},
	}
}

// needsSandboxes is the reason of everything that a sandbox is needed for.
const needsSandboxes = "needs sandboxes"

// capabilities returns the table for a machine. Pure.
func capabilities(m machine, runtimes []string) []Capability {
	up := m.refusal == ""
	rows := []Capability{{Feature: featureSandboxes, Title: "sandboxes on this machine", Works: up, Reason: m.refusal}}
	for _, name := range runtimes {
		why, missing := m.lacks["runtime:"+name]
		if !up && !missing {
			why = needsSandboxes
		}
		rows = append(rows, Capability{Feature: "runtime:" + name, Title: "OCI runtime " + name, Works: up && !missing, Reason: why})
	}
	for _, f := range []struct{ feature, title, note string }{
		{featureHost, "image host (this machine's /usr)", ""},
		{featureLayout, "images from OCI layouts", ""},
		{featureRegistry, "images from registries", ""},
		{featureEgress, "egress none (an empty network)", ""},
		{featureNetwork, "egress internet, allowlist, user, org, profile", ""},
		{featureNetwork6, "IPv6 in sandboxes with a network", ""},
		{featureCPU, "CPU limits", m.arrangement()},
		{featureMemory, "memory limits", m.arrangement()},
		{featurePIDs, "process limits", m.arrangement()},
		{"exec", "commands, terminals and files in a sandbox", ""},
		{featureDisk, "files of a sandbox on disk, with a limit", ""},
		{featurePause, "pause and resume", m.arrangement()},
		{"ports", "ports of sandboxes through the gateway, exposed ones at hosts of their own", "TCP"},
		{"recovery", "sandboxes survive a restart of the server", ""},
	} {
		row := Capability{Feature: f.feature, Title: f.title, Works: up, Reason: f.note}
		lack := f.feature
		if lack == featureRegistry {
			lack = featureLayout // What is pulled is mounted the same way.
		}
		if why, missing := m.lacks[lack]; missing {
			row.Works, row.Reason = false, why
		}
		if !up {
			row.Reason = needsSandboxes
		}
		rows = append(rows, row)
	}
	rows = append(rows, later()...)
	if !up {
		rows = append(rows, Capability{
			Feature: "control-plane", Title: "profiles, runners, zones, plans and their explanations", Works: true, Reason: "they need no sandbox",
		})
	}
	return rows
}

// features returns the names of what works, for Info.
func features(rows []Capability) []string {
	var out []string
	for _, c := range rows {
		if c.Works && !strings.HasPrefix(c.Feature, "runtime:") {
			out = append(out, c.Feature)
		}
	}
	out = append(out, backend.FeatureSecrets, backend.FeaturePorts)
	if slices.Contains(out, featureNetwork) { // Plans ask for the type.
		for _, t := range egress.Types() {
			if t != egress.None {
				out = append(out, "egress:"+string(t))
			}
		}
	}
	if slices.Contains(out, featureCPU) && slices.Contains(out, featureMemory) {
		out = append(out, "cgroup:limits")
	}
	return out
}
