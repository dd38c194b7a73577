//go:build cluster

package kube_test

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest"
	"github.com/bermhq/berm/internal/backend/kube"
)

// What test/cluster/kube.sh puts on the node.
const (
	initImage    = "localhost/berm-init:test"
	toolImage    = "localhost/tools:test"
	missingImage = "127.0.0.1:1/none:1"
)

// fragment makes the root read-only, as the contract wants part of an image to be, with room where it writes.
const fragment = `{
	"terminationGracePeriodSeconds": 1,
	"containers": [{"name": "main", "imagePullPolicy": "IfNotPresent", "securityContext": {"readOnlyRootFilesystem": true},
		"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "workspace", "mountPath": "/workspace"}]}],
	"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "workspace", "emptyDir": {}}]}`

func podFragment(t testing.TB, text string) *structpb.Struct {
	t.Helper()
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(t testing.TB, dir string) kube.Config {
	t.Helper()
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		t.Fatal("KUBECONFIG is not set: test/cluster/kube.sh starts a cluster and sets it")
	}
	return kube.Config{
		Dir: dir, RunnerName: filepath.Base(dir), Kubeconfig: path, Options: kube.Options{InitImage: initImage, Network: kube.NetworkRecorded},
	}
}

func open(t testing.TB, cfg kube.Config) *kube.Backend {
	t.Helper()
	b, err := kube.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func prepare(t testing.TB) func(w *backend.Work) {
	return func(w *backend.Work) {
		w.Spec.ContainerImage = proto.String(toolImage)
		w.Spec.Pod = &specpb.Pod{Spec: podFragment(t, fragment)}
		w.Launch.Idle = w.Launch.GetCommand() == ""
	}
}

// TestFaultPlan is what is asked of a plan, which has no ids yet.
func TestFaultPlan(t *testing.T) {
	b := open(t, config(t, t.TempDir()))
	defer b.Close()
	w := job(t, "", "true")
	w.OrgID = ""
	if err := b.Check(w); err != nil {
		t.Errorf("check of a plan: %v", err)
	}
	w.Spec.Namespace = &specpb.Namespace{Strategy: proto.String("per-user")}
	if err := b.Check(w); err != nil {
		t.Errorf("check of a plan: %v", err)
	}
	if err := b.Create(t.Context(), w); err == nil {
		t.Error("a sandbox without an id was made")
	}
}

func TestContract(t *testing.T) {
	configs := map[backend.Backend]kube.Config{}
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		cfg := config(t, t.TempDir())
		cfg.RunnerName = "contract-" + filepath.Base(filepath.Dir(cfg.Dir))
		b := open(t, cfg)
		configs[b] = cfg
		return b
	}, backendtest.Options{
		Prepare:      prepare(t),
		MissingImage: missingImage,
		PortServer:   os.Getenv("BERM_PORT_SERVER"),
		NoPools:      true,
		Refused: map[string]func(*backend.Work){
			"network.ingress.selected": func(w *backend.Work) { w.Spec.Network.Ingress = &specpb.Ingress{Selected: proto.String("public")} },
			"network.exposed_ports[0]": func(w *backend.Work) {
				w.Spec.Network.Ingress = &specpb.Ingress{Selected: proto.String("public"), Modes: map[string]*specpb.IngressMode{"public": {}}}
				w.Launch.Ports, w.Launch.ExposedPorts = []*specpb.Port{{ContainerPort: 9, Protocol: "SCTP"}}, []int32{9}
			},
			"runtime_class": func(w *backend.Work) { w.Spec.RuntimeClass = proto.String("none-such") },
			"command":       func(w *backend.Work) { w.Launch.Command, w.Launch.Args, w.Launch.Idle = "", nil, false },
			"fork_of":       func(w *backend.Work) { w.Launch.ForkOf = "another" },
			"mounted_files": func(w *backend.Work) {
				w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/f", Content: make([]byte, kube.MaxMountedBytes+1)}}
			},
		},
		Reopen: func(t *testing.T, old backend.Backend) backend.Backend {
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			b := open(t, configs[old])
			configs[b] = configs[old]
			return b
		},
	})
}
