package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
)

// kubeImageCmd writes the image of Berm.
func (s *session) kubeImageCmd() *cobra.Command {
	var in app.Image
	c := &cobra.Command{
		Use:   "kube-image --name REF (--out FILE | --layout DIR)",
		Short: "Write the container image of Berm",
		Long: `Write the image that a server and a runner on Kubernetes run from, and that every pod of a sandbox copies its init from. It is made of
this program; no registry and no container engine is asked for anything.

--out makes an archive that docker load, ctr images import and crane push take; --layout an OCI layout, for skopeo copy oci:DIR and
crane push. With --from the programs are taken from directories with berm and berm-shim, one per architecture.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if in.Name == "" || (in.Archive == "") == (in.Layout == "") {
				return fault.Invalidf("USAGE", "--name must be given, and one of --out and --layout").WithHint("For example: berm kube-image --name registry.example/berm:1 --out berm.tar")
			}
			if err := in.Write(); err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s holds %s\n", first(in.Archive, in.Layout), in.Name)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "what the image is called")
	f.StringVar(&in.Archive, "out", "", "the archive to make")
	f.StringVar(&in.Layout, "layout", "", "the directory to make, an OCI layout")
	f.BoolVar(&in.InitOnly, "init-only", false, "only the init of pods, a tenth of the size: for --kube-init-image where nodes pull slowly")
	f.StringArrayVar(&in.From, "from", nil, "directory with the programs for one architecture, repeatable (default: this program)")
	return c
}
