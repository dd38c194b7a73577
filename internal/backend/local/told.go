package local

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// What an error or an observation says is read by whoever may launch a sandbox. Where on this machine things are is not for
// them, and is not needed: the operator, who gave the paths, knows them by the names below, and the log has them.

// hidePaths makes the replacement of paths. The longest come first, so that a path below another has its own name.
func (b *Backend) hidePaths() {
	named := map[string]string{}
	for _, norm := range slices.Backward(slices.Sorted(maps.Keys(b.imageConfig.Names.Aliases))) {
		if a := b.imageConfig.Names.Aliases[norm]; a.Layout.Layout != "" {
			named[a.Layout.Layout] = "<layout of " + a.Given + ">"
		}
	}
	for _, file := range b.imageConfig.Registry.AuthFiles() {
		named[file] = "<credentials file>"
	}
	for _, dir := range []string{b.cfg.Dir, b.place.dir} {
		named[dir] = "<state directory>"
	}
	for _, dir := range []string{b.cfg.RunDir, b.place.run} {
		named[dir] = "<run directory>"
	}
	var pairs []string
	for _, dir := range slices.SortedFunc(maps.Keys(named), func(x, y string) int { return len(y) - len(x) }) {
		if len(dir) > 1 {
			pairs = append(pairs, dir, named[dir])
		}
	}
	b.hide = strings.NewReplacer(pairs...)
}

// told returns an error as callers may read it. Its cause, which is for the log, keeps the paths.
func (b *Backend) told(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	c := f.Clone()
	c.Message, c.Hint = b.hide.Replace(c.Message), b.hide.Replace(c.Hint)
	for i := range c.Fields {
		c.Fields[i].Description = b.hide.Replace(c.Fields[i].Description)
	}
	for k, v := range c.Meta {
		c.Meta[k] = b.hide.Replace(v)
	}
	return c
}

// toldOf returns an observation as callers may read it.
func (b *Backend) toldOf(o backend.Observation) backend.Observation {
	o.Message = b.hide.Replace(o.Message)
	o.Events = slices.Clone(o.Events)
	for i := range o.Events {
		o.Events[i].Message = b.hide.Replace(o.Events[i].Message)
	}
	return o
}
