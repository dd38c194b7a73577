package cli

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
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

// editFields changes single fields of the spec of a profile, as it was read.
func (s *session) editFields(ctx context.Context, c *client.Client, old json.RawMessage, f *fieldFlags, reason, etag string) error {
	n, err := answer(old)
	if err != nil {
		return err
	}
	var layer *spec.Layer
	if have := n.Get("spec"); have != nil {
		if layer, err = spec.ParseLayer(have.JSON()); err != nil {
			return err
		}
	}
	next, err := f.edit(layer)
	if err != nil {
		return err
	}
	body, err := tree.ParseJSON([]byte(`{"spec":` + string(next.WireJSON()) + `}`))
	if err != nil {
		return fault.Internalf(err, "encode the request")
	}
	if etag == "" { // what was read is what is changed
		etag = textAt(n, "etag")
	}
	raw, err := s.patch(ctx, c, profilesPath+"/"+textAt(n, "id"), "profileTemplate", body, reason, etag, "spec")
	if err != nil {
		return err
	}
	s.warnings(raw)
	return s.emitProfiles(raw, true)
}
