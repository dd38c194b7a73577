package network

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/nft"
)

// ways are the links of the machine on which forwarding was off and is on now, for the answers to sandboxes.
//
// Forwarding on a link means that whoever is on its network could use the machine as a router. So while the machine forwards
// on no other account, new connections from such a link to anywhere but here are dropped: it forwards what it did before, and
// connections of sandboxes. Once somebody switches forwarding on for the whole machine, that guard goes: it is their business then.
type ways struct{ opened4, opened6 map[string]bool }

// openWays switches forwarding on where packets of sandboxes leave, and sets the guard. mu is held.
func (n *Network) openWays() error {
	w := &n.ways
	if w.opened4 == nil {
		w.opened4, w.opened6 = map[string]bool{}, map[string]bool{}
	}
	others, err := n.k.openedByOthers()
	if err != nil {
		return err
	}
	var open []setting
	for _, link := range n.around.ways {
		open = append(open, openWay(w.opened4, link, forward4, forwardAll4, others["opened4"])...)
		if n.block.six() {
			open = append(open, openWay(w.opened6, link, forward6, forwardAll6, others["opened6"])...)
		}
	}
	guard4, guard6 := w.opened4, w.opened6
	if readSetting(forwardAll4) == "1" {
		guard4 = nil
	}
	if readSetting(forwardAll6) == "1" {
		guard6 = nil
	}
	for _, p := range []struct {
		set   *nftables.Set
		links map[string]bool
	}{{n.k.sets.opened4, w.opened4}, {n.k.sets.opened6, w.opened6}, {n.k.sets.guarded4, guard4}, {n.k.sets.guarded6, guard6}} {
		n.k.conn.FlushSet(p.set)
		var elements []nftables.SetElement
		for _, link := range slices.Sorted(maps.Keys(p.links)) {
			elements = append(elements, nftables.SetElement{Key: nft.IfName(link)})
		}
		for chunk := range slices.Chunk(elements, maxElements) {
			if err := n.k.conn.SetAddElements(p.set, chunk); err != nil {
				return err
			}
		}
	}
	// The guard is there before the way is open, and so is the note for the next server to close it.
	if err := n.k.commit(); err != nil {
		return err
	}
	failpoint.Hit(failNoted)
	for _, s := range open {
		if err := s.write(); err != nil {
			return err
		}
	}
	return nil
}

// openWay returns the setting that switches forwarding on for a link, unless it is on, and notes the link. What another backend
// switched on is as much ours as its.
func openWay(opened map[string]bool, link, one, all string, others map[string]bool) []setting {
	name := fmt.Sprintf(one, link)
	if others[link] {
		opened[link] = true
	}
	value := readSetting(name)
	if value == "1" || value == "" || one == forward6 && readSetting(all) == "1" {
		return nil
	}
	opened[link] = true
	return []setting{{name: name, value: "1", optional: true}} // The link may go meanwhile.
}

// closeWays switches forwarding off again where it was switched on, but for links that another backend needs. mu is held.
func (n *Network) closeWays(k *kernel) error {
	others, err := k.openedByOthers()
	if err != nil {
		return err
	}
	errs := make([]error, 0, len(n.ways.opened4)+len(n.ways.opened6))
	off := func(opened, others map[string]bool, one, all string) {
		for link := range opened {
			if others[link] || readSetting(all) == "1" { // Switched on for all: not ours any more.
				continue
			}
			err := setting{name: fmt.Sprintf(one, link), value: "0"}.write()
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	off(n.ways.opened4, others["opened4"], forward4, forwardAll4)
	off(n.ways.opened6, others["opened6"], forward6, forwardAll6)
	n.ways = ways{}
	return errors.Join(errs...)
}

// openedByOthers returns the links on which other backends of this machine switched forwarding on, by the name of the set.
func (k *kernel) openedByOthers() (map[string]map[string]bool, error) {
	out := map[string]map[string]bool{"opened4": {}, "opened6": {}}
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	for _, t := range tables {
		if t.Name == k.t.Name || !strings.HasPrefix(t.Name, tablePrefix) {
			continue
		}
		for name, links := range out {
			links2, err := k.links(&nftables.Set{Table: t, Name: name})
			if err != nil {
				return nil, err
			}
			maps.Copy(links, links2)
		}
	}
	return out, nil
}

// tablePrefix begins the names of the tables of all backends.
const tablePrefix = "berm-"

// links reads a set of links; a set that does not exist has none.
func (k *kernel) links(s *nftables.Set) (map[string]bool, error) {
	elements, err := k.conn.GetSetElements(s)
	if err != nil && !strings.Contains(err.Error(), unix.ENOENT.Error()) { // The library hides the error's type.
		return nil, fmt.Errorf("nftables: %w", err)
	}
	out := map[string]bool{}
	for _, e := range elements {
		out[strings.TrimRight(string(e.Key), "\x00")] = true
	}
	return out, nil
}
