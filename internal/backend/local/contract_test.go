package local

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest"
)

func TestContract(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		opened := map[backend.Backend]*testBackend{}
		backendtest.Run(t, func(t *testing.T) backend.Backend {
			b := open(t, withRuntime(runtime))
			opened[b.Backend] = b
			return b.Backend
		}, backendtest.Options{
			Prepare:       func(w *backend.Work) { w.Spec.RuntimeClass = proto.String(runtime) },
			NoTerminalEOF: runtime == "runsc", // of Debian 12: a gVisor of 2022
			PortServer:    portServerPath,
			MissingImage:  "registry.example/none:1",
			Refused: map[string]func(*backend.Work){
				"network.egress.selected": func(w *backend.Work) {
					w.Spec.Network.Egress.Selected = proto.String("internet")
				},
				"network.ingress.selected": func(w *backend.Work) { w.Spec.Network.Ingress = &specpb.Ingress{Selected: proto.String("public")} },
				"resource_defaults.gpu":    func(w *backend.Work) { w.Spec.ResourceDefaults.Gpu = &specpb.Gpu{Count: 1} },
				"pod.spec.hostNetwork": func(w *backend.Work) {
					w.Spec.Pod = &specpb.Pod{Spec: &structpb.Struct{Fields: map[string]*structpb.Value{"hostNetwork": structpb.NewBoolValue(true)}}}
				},
				"network.exposed_ports[0]": func(w *backend.Work) {
					w.Spec.Network.Ingress = &specpb.Ingress{Default: proto.String("m"), Modes: map[string]*specpb.IngressMode{"m": {}}}
					w.Launch.Ports, w.Launch.ExposedPorts = []*specpb.Port{{ContainerPort: 53, Protocol: "UDP"}}, []int32{53}
				},
				"mounted_files": func(w *backend.Work) {
					w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/f", Content: make([]byte, MaxMountedBytes+1)}}
				},
			},
			Reopen: func(_ *testing.T, old backend.Backend) backend.Backend {
				b := opened[old]
				b.reopen()
				opened[b.Backend] = b
				return b.Backend
			},
		})
	})
}
