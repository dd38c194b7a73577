package cli

import (
	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/core/spec"
)

// fieldFlags change single statements of a layer.
type fieldFlags struct{ set, clear, inherit []string }

// add gives a command the flags; layer is what they change, as in "the override".
func (f *fieldFlags) add(c *cobra.Command, layer string) {
	c.Flags().StringArrayVar(&f.set, "set", nil, "field of "+layer+", PATH=VALUE, repeatable")
	c.Flags().StringArrayVar(&f.clear, "clear", nil, "field that "+layer+" states to have no value, repeatable")
	c.Flags().StringArrayVar(&f.inherit, "inherit", nil, "field that "+layer+" does not state any more, repeatable")
}

func (f *fieldFlags) given() bool { return len(f.set)+len(f.clear)+len(f.inherit) > 0 }

func (f *fieldFlags) edit(layer *spec.Layer) (*spec.Layer, error) {
	return spec.Edit(layer, f.set, f.clear, f.inherit)
}
