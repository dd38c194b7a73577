package cli

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/spec"
)

const zonesPath = "/berm/v1/zones"

func (s *session) zoneCmd() *cobra.Command {
	return noun("zone", "Zones: the defaults beneath every profile",
		append(s.historyCmds("zone", zonesPath), s.zoneListCmd(), s.zoneGetCmd(), s.zonePutCmd(), s.zoneDeleteCmd())...)
}

func (s *session) zoneListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List zones", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			raw, err := listAll(ctx, c, zonesPath, "zones")
			if err != nil {
				return err
			}
			return s.emitZones(raw, false)
		}),
	})
}

func (s *session) zoneGetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get NAME", Short: "Show a zone as a file for put -f; -o json and yaml have all of it", Args: args(1, 1, "the name of a zone"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			raw, err := c.REST(ctx, "GET", client.Path(zonesPath+"/%s", a[0]), nil)
			if err != nil {
				return err
			}
			return s.showObject(raw, func() ([]byte, error) { return zoneDocument(raw) })
		}),
	})
}

func (s *session) zonePutCmd() *cobra.Command {
	var name, reason string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "put NAME -f FILE", Aliases: []string{"edit"}, Short: "Set the defaults of a zone, for the next launch on its runners", Args: args(1, 1, "the name of a zone"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			f, err := s.readKind("zone", name)
			if err != nil {
				return err
			}
			if n := f.root.Get("name"); n != nil && n.Text != a[0] {
				return f.show(misplaced(n, "name", "is %q, and the zone to be put is %q", n.Text, a[0]))
			}
			if n := f.root.Get("defaults"); n != nil {
				if _, err := spec.DecodeLayer(n, "defaults"); err != nil {
					return f.show(err)
				}
			}
			raw, err := s.write(ctx, c, "PUT", client.Path(zonesPath+"/%s", a[0]), wrap("zone", without(f.root, "name")), reasonHeader(reason)...)
			if err != nil {
				return f.show(err)
			}
			s.warnings(raw)
			return s.emitZones(raw, true)
		}),
	}))
	c.Flags().StringVarP(&name, "file", "f", "", "YAML or JSON file with `defaults`, - for standard input")
	reasonFlag(c, &reason)
	return c
}

func (s *session) zoneDeleteCmd() *cobra.Command {
	var reason string
	c := s.editing(s.outputFlag(&cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a zone that no runner names", Args: args(1, 1, "the name of a zone"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if _, err := s.write(ctx, c, "DELETE", client.Path(zonesPath+"/%s", a[0]), nil, reasonHeader(reason)...); err != nil {
				return err
			}
			return s.report(map[string]string{"name": a[0]}, "zone %s deleted", a[0])
		}),
	}))
	reasonFlag(c, &reason)
	return c
}

func (s *session) emitZones(raw json.RawMessage, one bool) error {
	items, err := objects(raw, one)
	if err != nil {
		return err
	}
	return s.emit(raw, func() table {
		t := table{head: []string{"ZONE", "REVISION", "DEFAULTS", "UPDATED"}}
		for _, z := range items {
			t.rows = append(t.rows, []string{pick(z, "name"), pick(z, "revision"), short(pick(z, "defaults")), localTime(pick(z, "updatedAt"))})
		}
		return t
	})
}
