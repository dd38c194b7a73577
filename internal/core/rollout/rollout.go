// Package rollout is how the process of a runner is deployed: what is wanted of it, what it says of itself, and when what is wanted may
// change on its own. A gateway decides with it, a runner checks with the same code what a gateway asks for. It is pure: callers have
// the clock.
package rollout

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kinds of deployments.
const (
	// KindServer is a runner that is part of a server, KindProcess one that somebody keeps running on a machine.
	KindServer  = "server"
	KindProcess = "process"
	// KindStatefulSet is a runner on a cluster that knows which StatefulSet it is.
	KindStatefulSet = "statefulset"
)

// RevisionVar names the variable that tells a runner's process which revision of its deployment it runs, ArgsVar the one with the
// arguments of the overrides, as a JSON list: they are parsed after the others.
const (
	RevisionVar = "BERM_DEPLOYMENT_REVISION"
	ArgsVar     = "BERM_RUNNER_ARGS"
	// ImageVar names the variable with the image of the runner, which is the one of the init, too.
	ImageVar = "BERM_IMAGE"
	// IdentityVar names the variable with the identity of what a runner made of itself. It begins with the revision, so that somebody who
	// changes the deployment by hand, revision included, leaves none.
	IdentityVar = "BERM_DEPLOYMENT_IDENTITY"
)

// State is what a process says of its deployment.
type State struct {
	// Kind is "" for a process that says nothing, of a release before this.
	Kind    string
	Version string
	// Revision is what it runs, 0 when it was not told.
	Revision int32
	// Identity is that of the deployment it runs, "" where nobody said: one that was made by hand, or by a release before this.
	Identity string
	// Namespace and Name are those of the StatefulSet.
	Namespace, Name string
	// SelfUpdate says that it changes its own deployment; Images are the repositories that it takes an image from.
	SelfUpdate bool
	Images     []string
	// Installed is the deployment without overrides; the values of its variables stay with the process. Image is what it runs.
	Installed Spec
	Image     string
	// Gateway is the URL that it connects to.
	Gateway string
	// Trying is the revision that it is changing to, 0 for none; Problem why it could not change to one.
	Trying  int32
	Problem *Problem
}

// ReasonUndone is that of a revision which was made the deployment once and taken back: it is not tried again.
const ReasonUndone = "ROLLOUT_UNDONE"

// Failed reports whether a revision could not be rolled out, and is not being tried again.
func (s *State) Failed(revision int32) bool {
	return s.Problem != nil && s.Problem.Revision == revision && s.Trying != revision
}

// Problem is why a revision could not be rolled out. What ran before goes on.
type Problem struct {
	Revision                int32
	Reason, Message, Detail string
	Hints                   []string
	At                      time.Time
}

// Wanted is the deployment that a gateway wants.
type Wanted struct {
	Revision int32
	// Identity is "" from a gateway of a release before this.
	Identity string
	// Image is "" for the one that was installed.
	Image     string
	Overrides Overrides
}

// Identify returns what is wanted with its identity. A revision alone is a number that another document has, too: that of a runner which was
// deleted and made again, or of a database of yesterday.
func (w Wanted) Identify(runnerUUID string) Wanted {
	o := w.Overrides
	o.Scaling = Scaling{} // It makes no other deployment.
	sum := sha256.Sum256([]byte(runnerUUID + "\x00" + w.Image + "\x00" + o.JSON()))
	w.Identity = fmt.Sprintf("%d.%x", w.Revision, sum[:16])
	return w
}

// IdentityOf returns the identity in IdentityVar, "" when it is not one of the revision that runs.
func IdentityOf(revision int32, text string) string {
	if !strings.HasPrefix(text, fmt.Sprintf("%d.", revision)) {
		return ""
	}
	return text
}

// Runs reports whether a process runs what is wanted. Where it cannot say what it is, the number has to do.
func (s *State) Runs(w Wanted) bool {
	return max(s.Revision, 1) == max(w.Revision, 1) && (s.Identity == "" || s.Identity == w.Identity)
}

// Spec is a deployment as resolved: what was installed, then the overrides.
type Spec struct {
	Image           string            `json:"image,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	Args            []string          `json:"args,omitempty"`
	Resources       Resources         `json:"resources,omitzero"`
	NodeSelector    map[string]string `json:"nodeSelector,omitempty"`
	Tolerations     []Toleration      `json:"tolerations,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	ServiceAccount  string            `json:"serviceAccount,omitempty"`
	ImagePullPolicy string            `json:"imagePullPolicy,omitempty"`
}

// Resolve returns what a wanted deployment comes to. A selector and tolerations that are overridden replace those that were installed as a
// whole; amounts, variables, labels and annotations do one by one, and arguments are added.
func Resolve(installed Spec, w Wanted) Spec {
	s, o := installed, w.Overrides
	if w.Image != "" {
		s.Image = w.Image
	}
	s.Env, s.Annotations, s.Labels = joined(s.Env, o.Env), joined(s.Annotations, o.Annotations), joined(s.Labels, o.Labels)
	s.Args = slices.Clone(s.Args)
	for _, a := range o.Args {
		if !slices.Contains(installed.Args, a) { // Whoever installed it may have given it already.
			s.Args = append(s.Args, a)
		}
	}
	if len(o.NodeSelector) > 0 {
		s.NodeSelector = maps.Clone(o.NodeSelector)
	}
	if len(o.Tolerations) > 0 {
		s.Tolerations = slices.Clone(o.Tolerations)
	}
	s.Resources = s.Resources.with(o.Resources)
	return s
}

// WithoutValues returns a deployment with the names of its variables alone: a value that its owner gave, as a proxy with a password, is
// nobody else's to read.
func (s Spec) WithoutValues() Spec {
	s.Env = maps.Clone(s.Env)
	for k := range s.Env {
		s.Env[k] = ""
	}
	return s
}

func joined(a, b map[string]string) map[string]string {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// Differs reports whether a process runs something else than the release of its channel.
func (s *State) Differs(r Release) bool {
	if s.Kind == KindStatefulSet && r.Image != "" {
		return s.Image != r.Image
	}
	return s.Version != "" && r.Version != "" && s.Version != r.Version
}
