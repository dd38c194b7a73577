package control

import (
	"bytes"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// documentVersion is written into every body. A body of a later version is refused: it may hold what this build would drop.
const documentVersion = 1

// The bodies of configuration objects, as stored. Layers are their canonical text, so absent, null and empty survive.
type (
	zoneDocument struct {
		Version  int             `json:"version"`
		Name     string          `json:"name"`
		Defaults json.RawMessage `json:"defaults,omitempty"`
	}
	profileDocument struct {
		Version     int               `json:"version"`
		DisplayName string            `json:"displayName"`
		Description string            `json:"description,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		Spec        json.RawMessage   `json:"spec"`
	}
	runnerDocument struct {
		Version       int                `json:"version"`
		RunnerID      string             `json:"runnerId"`
		DisplayName   string             `json:"displayName,omitempty"`
		Zone          string             `json:"zone"`
		ClusterID     string             `json:"clusterId,omitempty"`
		ClusterName   string             `json:"clusterName,omitempty"`
		GroupID       string             `json:"groupId,omitempty"`
		Managed       managedDocument    `json:"managed"`
		Bindings      []bindingDocument  `json:"bindings"`
		Cordon        *cordonDocument    `json:"cordon,omitempty"`
		Deployment    deploymentDocument `json:"deployment,omitzero"`
		DeletingSince *time.Time         `json:"deletingSince,omitempty"`
	}
	cordonDocument struct {
		By     string    `json:"by"`
		At     time.Time `json:"at"`
		Reason string    `json:"reason,omitempty"`
	}
	deploymentDocument struct {
		Revision int32  `json:"revision,omitempty"`
		Version  string `json:"version,omitempty"`
		Image    string `json:"image,omitempty"`
		ByPolicy bool   `json:"byPolicy,omitempty"`
	}
	managedDocument struct {
		ReleaseChannel      string          `json:"releaseChannel,omitempty"`
		AllowPrivileged     bool            `json:"allowPrivilegedProfileAnnotations,omitempty"`
		EnforceLimits       bool            `json:"enforceResourceLimits,omitempty"`
		CPURuntimeClass     string          `json:"cpuRuntimeClass,omitempty"`
		GPURuntimeClass     string          `json:"gpuRuntimeClass,omitempty"`
		MaintenancePolicy   json.RawMessage `json:"maintenancePolicy,omitempty"`
		DeploymentOverrides json.RawMessage `json:"overrides,omitempty"`
	}
	bindingDocument struct {
		ProfileID string          `json:"profileId"`
		Alias     string          `json:"alias,omitempty"`
		Default   bool            `json:"default,omitempty"`
		Overrides json.RawMessage `json:"overrides,omitempty"`
		Warm      int32           `json:"warm,omitempty"`
	}
)

func layerText(l *spec.Layer) json.RawMessage {
	if l == nil {
		return nil
	}
	return l.JSON()
}

func parseLayer(text json.RawMessage) (*spec.Layer, error) {
	if len(text) == 0 {
		return nil, nil
	}
	return spec.ParseStored(text)
}

// encode returns the canonical body of a document.
func encode(document any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // embedded texts stay as they were written
	if err := enc.Encode(document); err != nil {
		return nil, fault.Internalf(err, "encode a configuration object")
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(body) > store.MaxBody {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the object has %d bytes, the limit is %d", len(body), store.MaxBody)
	}
	return body, nil
}

// decode reads a body. What cannot be read was not written by this build: corrupt or newer.
func decode(o *store.Object, document any, version func() int) error {
	if err := json.Unmarshal(o.Body, document); err != nil {
		return fault.Internalf(err, "%s %s revision %d cannot be read", o.Kind, o.ID, o.Revision)
	}
	if v := version(); v != documentVersion {
		return fault.Internalf(nil, "%s %s revision %d has document version %d; this build reads %d", o.Kind, o.ID, o.Revision, v, documentVersion)
	}
	return nil
}

func metaOf(o *store.Object) core.Meta {
	return core.Meta{
		ID: o.ID, OrgID: o.OrgID, Revision: o.Revision, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
		UpdatedBy: o.UpdatedBy, Reason: o.Reason,
	}
}

// object returns the stored form of an object with this meta, name and body.
func object(kind store.Kind, m core.Meta, name, unique string, document any) (*store.Object, error) {
	body, err := encode(document)
	if err != nil {
		return nil, err
	}
	return &store.Object{
		Kind: kind, OrgID: m.OrgID, ID: m.ID, Name: name, Unique: unique, Revision: m.Revision, Body: body,
		CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt, UpdatedBy: m.UpdatedBy, Reason: m.Reason,
	}, nil
}

func zoneObject(z *core.Zone) (*store.Object, error) {
	return object(store.KindZone, z.Meta, z.Name, "", zoneDocument{Version: documentVersion, Name: z.Name, Defaults: layerText(z.Defaults)})
}

func zoneFrom(o *store.Object) (*core.Zone, error) {
	var d zoneDocument
	if err := decode(o, &d, func() int { return d.Version }); err != nil {
		return nil, err
	}
	defaults, err := parseLayer(d.Defaults)
	if err != nil {
		return nil, fault.Internalf(err, "zone %s revision %d: defaults cannot be read", o.Name, o.Revision)
	}
	return &core.Zone{Meta: metaOf(o), Name: d.Name, Defaults: defaults}, nil
}

func profileObject(p *core.Profile) (*store.Object, error) {
	text := layerText(p.Spec)
	if text == nil {
		text = json.RawMessage("{}")
	}
	return object(store.KindProfile, p.Meta, p.DisplayName, "", profileDocument{
		Version: documentVersion, DisplayName: p.DisplayName, Description: p.Description, Labels: p.Labels, Spec: text,
	})
}

func profileFrom(o *store.Object) (*core.Profile, error) { return profileWith(o, nil) }

// profileWith is profileFrom of those whose labels are wanted, nil for others: reading a spec takes ten times as long as reading labels.
func profileWith(o *store.Object, wanted labels.Selector) (*core.Profile, error) {
	var d profileDocument
	if err := decode(o, &d, func() int { return d.Version }); err != nil {
		return nil, err
	}
	if wanted != nil && !selects(wanted, d.Labels) {
		return nil, nil //nolint:nilnil // none, and nothing went wrong
	}
	layer, err := parseLayer(d.Spec)
	if err != nil {
		return nil, fault.Internalf(err, "profile %s revision %d: its spec cannot be read", o.Name, o.Revision)
	}
	return &core.Profile{Meta: metaOf(o), DisplayName: d.DisplayName, Description: d.Description, Labels: d.Labels, Spec: layer}, nil
}

func runnerObject(r *core.Runner) (*store.Object, error) {
	d := runnerDocument{
		Version: documentVersion, RunnerID: r.RunnerID, DisplayName: r.DisplayName, Zone: r.Zone,
		ClusterID: r.ClusterID, ClusterName: r.ClusterName, GroupID: r.GroupID, DeletingSince: r.DeletingSince, Cordon: (*cordonDocument)(r.Cordon),
		Deployment: deploymentDocument(r.Deployment),
		Managed: managedDocument{
			ReleaseChannel: r.Managed.ReleaseChannel, AllowPrivileged: r.Managed.AllowPrivilegedProfileAnnotation,
			EnforceLimits: r.Managed.EnforceResourceLimits, CPURuntimeClass: r.Managed.CPURuntimeClass, GPURuntimeClass: r.Managed.GPURuntimeClass,
			MaintenancePolicy: json.RawMessage(r.Managed.MaintenancePolicyJSON), DeploymentOverrides: json.RawMessage(r.Managed.OverridesJSON),
		},
		Bindings: make([]bindingDocument, len(r.Bindings)),
	}
	for i, b := range r.Bindings {
		d.Bindings[i] = bindingDocument{ProfileID: b.ProfileID, Alias: b.Alias, Default: b.Default, Overrides: layerText(b.Overrides), Warm: b.Warm}
	}
	return object(store.KindRunner, r.Meta, r.RunnerID, clusterKey(r), d)
}

// clusterKey identifies the cluster that a runner is for; at most one runner has it.
func clusterKey(r *core.Runner) string {
	if r.ClusterID != "" {
		return "id:" + r.ClusterID
	}
	return "name:" + r.ClusterName
}

func runnerFrom(o *store.Object) (*core.Runner, error) {
	var d runnerDocument
	if err := decode(o, &d, func() int { return d.Version }); err != nil {
		return nil, err
	}
	r := &core.Runner{
		Meta: metaOf(o), RunnerID: d.RunnerID, DisplayName: d.DisplayName, Zone: d.Zone,
		ClusterID: d.ClusterID, ClusterName: d.ClusterName, GroupID: d.GroupID, DeletingSince: d.DeletingSince, Cordon: (*core.Cordon)(d.Cordon),
		Deployment: core.Deployment(d.Deployment),
		Managed: core.ManagedSpec{
			ReleaseChannel: d.Managed.ReleaseChannel, AllowPrivilegedProfileAnnotation: d.Managed.AllowPrivileged,
			EnforceResourceLimits: d.Managed.EnforceLimits, CPURuntimeClass: d.Managed.CPURuntimeClass, GPURuntimeClass: d.Managed.GPURuntimeClass,
			MaintenancePolicyJSON: string(d.Managed.MaintenancePolicy), OverridesJSON: string(d.Managed.DeploymentOverrides),
		},
		Bindings: make([]core.Binding, len(d.Bindings)),
	}
	for i, b := range d.Bindings {
		layer, err := parseLayer(b.Overrides)
		if err != nil {
			return nil, fault.Internalf(err, "runner %s revision %d: override %d cannot be read", o.Name, o.Revision, i)
		}
		r.Bindings[i] = core.Binding{ProfileID: b.ProfileID, Alias: b.Alias, Default: b.Default, Overrides: layer, Warm: b.Warm}
	}
	return r, nil
}
