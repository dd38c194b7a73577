package guard

import (
	"fmt"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/spec"
)

// locked checks that what the request gives for a locked field is what the layers below say anyway.
func (c *checker) locked() {
	if len(c.locks) == 0 {
		return
	}
	for _, leaf := range c.s.Request.Layer.Leaves() {
		if leaf.Field.Additive {
			// Each entry is a field of its own. None equals what is below, since a request replaces no entry.
			for _, e := range leaf.Entries() {
				c.lock(e, found{Leaf: spec.Leaf{Field: e.Field, Key: e.Key}})
			}
			continue
		}
		switch leaf.Field {
		case c.set.egressSelected:
			c.lock(leaf, c.below(c.set.egressDefault))
		case c.set.ingressSelected:
			c.lock(leaf, c.below(c.set.ingressDefault))
		default:
			c.lock(leaf, c.below(leaf.Field))
		}
	}
}

// lock compares one statement of the request with what it may only repeat.
func (c *checker) lock(leaf spec.Leaf, own found) {
	path := leaf.Path()
	lock := c.lockOf(path)
	if lock == nil || c.equal(leaf, own.Leaf) {
		return
	}
	limit := "unset"
	if own.State == spec.Set {
		limit = own.String()
	}
	v := Violation{
		Reason: ReasonLocked, Path: path, Value: leaf.String(), Limit: limit, LimitPath: c.set.locked.Path,
		ValueOrigin: c.s.Origin, LimitOrigin: lock.origin,
		Message: fmt.Sprintf("%s is locked%s; below the request it is %s%s, the request asks for %s", path, from(lock.origin), limit, from(own.origin), leaf),
	}
	v.repair(launch.RequestPath(path), "", func(l *specpb.Launch) { unset(l, path) })
	c.add(v)
}

// lockOf returns the lock that covers a path. To lock the default mode is to lock the mode.
func (c *checker) lockOf(path string) *entry {
	for i := range c.locks {
		lock := c.locks[i].text
		if covers(lock, path) ||
			path == c.set.egressSelected.Path && lock == c.set.egressDefault.Path ||
			path == c.set.ingressSelected.Path && lock == c.set.ingressDefault.Path {
			return &c.locks[i]
		}
	}
	return nil
}

// covers reports whether path is root or inside it.
func covers(root, path string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// equal compares by meaning: quantities by amount, images by normalised reference.
func (c *checker) equal(a, b spec.Leaf) bool {
	if a.State != b.State {
		return false
	}
	x, okX := a.Amount()
	y, okY := b.Amount()
	if okX && okY {
		return x == y
	}
	if a.Field == c.set.image {
		s, _ := a.Any().(string)
		t, _ := b.Any().(string)
		return NormalizeImage(s) == NormalizeImage(t)
	}
	return a.String() == b.String()
}
