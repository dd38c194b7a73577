package cli

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// networkRefused is what --kube-network calls kube.NetworkRefused.
const networkRefused = "refused"

// initContainer is what --kube-init calls kube.InitFromContainer.
const initContainer = "init-container"

// kubeFlags are the flags of `berm serve` and `berm runner` about how sandboxes run on Kubernetes.
type kubeFlags struct {
	denied                                   []string
	initImage, initFrom, network, typesLabel string
	privileged                               bool
}

func (k *kubeFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&k.initImage, "kube-init-image", "", "image that pods take Berm's init from, which berm kube-image makes; the nodes must be able to pull it")
	f.StringVar(&k.initFrom, "kube-init", initContainer, "how the init gets into pods: init-container, or image-volume, which is faster and needs Kubernetes 1.35 and containerd 2.1 on every node (see docs/kubernetes.md)")
	f.StringVar(&k.network, "kube-network", networkRefused, "what becomes of egress modes on Kubernetes: refused, recorded, guard, policies, or guard+policies (see docs/kubernetes.md)")
	f.StringArrayVar(&k.denied, "kube-deny-egress", nil, "CIDR that no sandbox on Kubernetes reaches, whatever profiles say, repeatable: ranges of the cluster that are not private")
	f.StringVar(&k.typesLabel, "kube-instance-type-label", "", "label of nodes that instance types are values of (default node.kubernetes.io/instance-type)")
	f.BoolVar(&k.privileged, "kube-allow-privileged", false, "let pods have the privileges that a profile carries, where the runner's allow_privileged_profile_annotations says so, too")
}

func (k *kubeFlags) read() (app.Kube, error) {
	out := app.Kube{InitImage: k.initImage, InstanceTypeLabel: k.typesLabel, Network: kube.Network(k.network), AllowPrivileged: k.privileged}
	if k.network == networkRefused {
		out.Network = kube.NetworkRefused
	} else if !slices.Contains(kube.Networks(), out.Network) {
		return out, fault.Invalidf("USAGE", "--kube-network %q is none of %s and %v", k.network, networkRefused, kube.Networks())
	}
	switch k.initFrom {
	case initContainer, "": // "" is of who asks about networks alone.
	case string(kube.InitFromImage):
		out.InitFrom = kube.InitFromImage
	default:
		return out, fault.Invalidf("USAGE", "--kube-init %q is neither %s nor %s", k.initFrom, initContainer, kube.InitFromImage)
	}
	var err error
	out.DeniedEgress, err = prefixes("--kube-deny-egress", k.denied)
	return out, err
}

// clusterFlags are those of `berm serve`, which may have several clusters.
type clusterFlags struct {
	kubeFlags
	clusters []string
}

func (c *clusterFlags) bind(f *pflag.FlagSet) {
	f.StringArrayVar(&c.clusters, "kube", nil, "runner NAME[=KUBECONFIG][#CONTEXT] runs sandboxes on a Kubernetes cluster, repeatable (see docs/kubernetes.md)")
	c.kubeFlags.bind(f)
}

func (c *clusterFlags) read() (app.Kube, error) {
	out, err := c.kubeFlags.read()
	out.Clusters = map[string]app.KubeCluster{}
	for _, text := range c.clusters {
		rest, context, _ := strings.Cut(text, "#")
		name, file, _ := strings.Cut(rest, "=")
		if _, twice := out.Clusters[name]; twice || name == "" {
			return out, fault.Invalidf("USAGE", "--kube %q: want NAME[=KUBECONFIG][#CONTEXT], each runner once", text)
		}
		out.Clusters[name] = app.KubeCluster{Kubeconfig: file, Context: context}
	}
	return out, err
}
