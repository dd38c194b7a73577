package library

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bermhq/berm/internal/backend/local/image/registry"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// File is what the file of `berm serve --images` says.
type File struct {
	settings
	// runners have settings of their own.
	runners map[string]settings
}

// settings are one level of the file. What is nil is not set there.
type settings struct {
	authFile *string
	allow    []string
	pull     *Policy
	verify   *Verify
	keep     *time.Duration
	maxBytes *int64
	pins     []string
	aliases  map[string]string
	hosts    map[string]host
}

// host is one registry of the file.
type host struct {
	registry.Host
	mirrors []string
	sealed  bool
}

// Decode reads the file from its document. All that is wrong is told at once, with positions. dir is what relative names of files are
// relative to.
func Decode(n *tree.Node, dir string) (*File, error) {
	d := &decoder{dir: dir}
	f := &File{runners: map[string]settings{}}
	d.level(n, "", &f.settings, f.runners)
	if err := d.wrong.Err("the images file is not right"); err != nil {
		return nil, err
	}
	if _, err := f.For("any", nil); err != nil {
		return nil, err
	}
	for name := range f.runners {
		if _, err := f.For(name, nil); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Runners lists the runners that the file has settings for.
func (f *File) Runners() []string {
	if f == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(f.runners))
}

// For returns the configuration of one runner: what its section says counts before what the file says for all, by key, and for aliases
// and registries by entry. extra are aliases given elsewhere. A nil File is an empty one.
func (f *File) For(runner string, extra map[string]string) (Config, error) {
	var all settings
	if f != nil {
		all = f.settings.under(f.runners[runner])
	}
	c := Config{Pins: all.pins, Sealed: map[string]bool{}, Registry: registry.Config{Allow: all.allow, Hosts: map[string]registry.Host{}}}
	set(&c.Registry.AuthFile, all.authFile)
	set(&c.Pull, all.pull)
	set(&c.Verify, all.verify)
	set(&c.Keep, all.keep)
	set(&c.MaxBytes, all.maxBytes)
	mirrors := map[string][]string{}
	for name, h := range all.hosts {
		c.Registry.Hosts[name] = h.Host
		if len(h.mirrors) > 0 {
			mirrors[name] = h.mirrors
		}
		if canonical, err := canonicalHost(name); err == nil && h.sealed {
			c.Sealed[canonical] = true
		}
	}
	aliases := maps.Clone(all.aliases)
	if aliases == nil {
		aliases = map[string]string{}
	}
	maps.Copy(aliases, extra)
	var err error
	if c.Names, err = ParseNames("runner "+runner, aliases, mirrors, true); err != nil {
		return c, err
	}
	probe, err := registry.New(c.Registry)
	if err != nil {
		return c, err
	}
	probe.Close()
	for _, p := range c.Pins {
		if _, err := parse(p); err != nil {
			return c, err
		}
	}
	return c, nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// under lays o over s.
func (s settings) under(o settings) settings {
	out := s
	if o.authFile != nil {
		out.authFile = o.authFile
	}
	if o.pull != nil {
		out.pull = o.pull
	}
	if o.verify != nil {
		out.verify = o.verify
	}
	if o.keep != nil {
		out.keep = o.keep
	}
	if o.maxBytes != nil {
		out.maxBytes = o.maxBytes
	}
	if o.allow != nil {
		out.allow = o.allow
	}
	if o.pins != nil {
		out.pins = o.pins
	}
	out.aliases, out.hosts = maps.Clone(s.aliases), maps.Clone(s.hosts)
	if out.aliases == nil {
		out.aliases = map[string]string{}
	}
	if out.hosts == nil {
		out.hosts = map[string]host{}
	}
	maps.Copy(out.aliases, o.aliases)
	maps.Copy(out.hosts, o.hosts)
	return out
}

// decoder reads the document.
type decoder struct {
	dir   string
	wrong tree.Problems
}

// field reads one key of an object.
type field struct {
	name string
	read func(n *tree.Node, path string)
}

// object reads an object key by key, and refuses keys that are not known.
func (d *decoder) object(n *tree.Node, path string, fields []field) {
	if n.Kind != tree.Object {
		d.wrong.Add(n, path, "expected an object, got %s", n.Kind)
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	for _, k := range n.Keys {
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == k.Name })
		if at < 0 {
			d.wrong.Unknown(k, tree.Join(path, k.Name), names, "")
			continue
		}
		fields[at].read(k.Value, tree.Join(path, k.Name))
	}
}

// each reads an object whose keys are names.
func (d *decoder) each(n *tree.Node, path string, most int, read func(name string, n *tree.Node, path string)) {
	if n.Kind != tree.Object {
		d.wrong.Add(n, path, "expected an object, got %s", n.Kind)
		return
	}
	if len(n.Keys) > most {
		d.wrong.Add(n, path, "%d entries, at most %d are possible", len(n.Keys), most)
		return
	}
	for _, k := range n.Keys {
		read(k.Name, k.Value, path+"["+k.Name+"]")
	}
}

func (d *decoder) text(to *string) func(*tree.Node, string) {
	return func(n *tree.Node, path string) {
		if n.Kind != tree.String || n.Text == "" {
			d.wrong.Add(n, path, "expected a string, got %s", n.Kind)
			return
		}
		*to = n.Text
	}
}

// file reads the name of a file, which is never a secret itself.
func (d *decoder) file(to *string) func(*tree.Node, string) {
	return func(n *tree.Node, path string) {
		d.text(to)(n, path)
		if *to != "" && !filepath.IsAbs(*to) {
			*to = filepath.Join(d.dir, *to)
		}
	}
}

func (d *decoder) truth(to *bool) func(*tree.Node, string) {
	return func(n *tree.Node, path string) {
		if n.Kind != tree.Bool {
			d.wrong.Add(n, path, "expected true or false, got %s", n.Kind)
			return
		}
		*to = n.Text == "true"
	}
}

// amount reads a number, or a quantity such as 50Gi.
func (d *decoder) amount(least, most int64, to *int64) func(*tree.Node, string) {
	return func(n *tree.Node, path string) {
		q, err := resource.ParseQuantity(n.Text)
		if (n.Kind != tree.Number && n.Kind != tree.String) || err != nil || q.Value() < least || q.Value() > most {
			d.wrong.Add(n, path, "expected a number from %d to %d, such as 100 or 10Gi", least, most)
			return
		}
		*to = q.Value()
	}
}

func (d *decoder) texts(to *[]string, most int) func(*tree.Node, string) {
	return func(n *tree.Node, path string) {
		if n.Kind != tree.List || len(n.Items) > most {
			d.wrong.Add(n, path, "expected a list of at most %d strings", most)
			return
		}
		*to = []string{}
		for _, item := range n.Items {
			if item.Kind != tree.String {
				d.wrong.Add(item, path, "expected a string, got %s", item.Kind)
				continue
			}
			*to = append(*to, item.Text)
		}
	}
}

// Limits of the file.
const (
	maxAllowed, maxHosts, maxRunners = 256, 256, 256
	maxBytesLimit                    = 1 << 60
	maxKeep                          = 10 * 365 * 24 * time.Hour
)

// level reads the settings for all runners, or those of one, which has no runners.
func (d *decoder) level(n *tree.Node, path string, s *settings, runners map[string]settings) {
	var authFile, pull, verify, keep string
	var maxBytes int64
	fields := []field{
		{"allow", d.texts(&s.allow, maxAllowed)}, {"auth_file", d.file(&authFile)}, {"pull", d.text(&pull)}, {"verify", d.text(&verify)}, {"keep", d.text(&keep)},
		{"max_size", d.amount(1<<20, maxBytesLimit, &maxBytes)}, {"pins", d.texts(&s.pins, MaxPins)},
		{"aliases", func(n *tree.Node, path string) { s.aliases = d.aliases(n, path) }},
		{"registries", func(n *tree.Node, path string) { s.hosts = d.hosts(n, path) }},
	}
	if runners != nil {
		fields = append(fields, field{"runners", func(n *tree.Node, path string) {
			d.each(n, path, maxRunners, func(name string, n *tree.Node, path string) {
				var one settings
				d.level(n, path, &one, nil)
				runners[name] = one
			})
		}})
	}
	d.object(n, path, fields)
	if authFile != "" {
		s.authFile = &authFile
	}
	if maxBytes > 0 {
		s.maxBytes = &maxBytes
	}
	if pull != "" {
		p := Policy(pull)
		if p != PullMissing && p != PullAlways && p != PullNever {
			d.wrong.Add(n.Get("pull"), tree.Join(path, "pull"), "%q: want %s, %s or %s", pull, PullMissing, PullAlways, PullNever)
		}
		s.pull = &p
	}
	if verify != "" {
		v := Verify(verify)
		if v != VerifyChanged && v != VerifyAlways && v != VerifyNever {
			d.wrong.Add(n.Get("verify"), tree.Join(path, "verify"), "%q: want %s, %s or %s", verify, VerifyChanged, VerifyAlways, VerifyNever)
		}
		s.verify = &v
	}
	if keep != "" {
		t, err := time.ParseDuration(keep)
		if err != nil || t < MinKeep || t > maxKeep {
			d.wrong.Add(n.Get("keep"), tree.Join(path, "keep"), "%q: want a duration from %s to %s, such as 168h", keep, MinKeep, maxKeep)
		}
		s.keep = &t
	}
}

func (d *decoder) aliases(n *tree.Node, path string) map[string]string {
	out := map[string]string{}
	d.each(n, path, maxAllowed, func(name string, n *tree.Node, path string) {
		var value string
		d.text(&value)(n, path)
		if dir, ok := strings.CutPrefix(value, "oci:"); ok && !filepath.IsAbs(dir) {
			value = "oci:" + filepath.Join(d.dir, dir)
		}
		if _, _, err := parseAlias(name, value, true); value != "" && err != nil {
			d.wrong.Add(n, path, "%v", err)
		}
		out[name] = value
	})
	return out
}

func (d *decoder) hosts(n *tree.Node, path string) map[string]host {
	out := map[string]host{}
	d.each(n, path, maxHosts, func(name string, n *tree.Node, path string) {
		var h host
		var downloads, pulls int64
		d.object(n, path, []field{
			{"private", d.truth(&h.Private)}, {"insecure", d.truth(&h.Insecure)}, {"ca_file", d.file(&h.CAFile)}, {"auth_file", d.file(&h.AuthFile)},
			{"max_downloads", d.amount(1, registry.MaxDownloads, &downloads)},
			{"max_bytes_per_second", d.amount(registry.MinBytesPerSecond, maxBytesLimit, &h.BytesPerSecond)},
			{"max_pulls_per_minute", d.amount(1, registry.MaxPullsPerMinute, &pulls)},
			{"mirrors", d.texts(&h.mirrors, MaxMirrors)}, {"mirrors_only", d.truth(&h.sealed)},
		})
		h.MaxDownloads, h.PullsPerMinute = int(downloads), int(pulls)
		if h.sealed && len(h.mirrors) == 0 {
			d.wrong.Add(n, path, "mirrors_only without mirrors: nothing could be pulled; to forbid a registry leave it out of allow")
		}
		if _, err := canonicalHost(name); err != nil {
			d.wrong.Add(n, path, "%v", err)
		}
		for _, m := range h.mirrors {
			if err := checkMirror(m); err != nil {
				d.wrong.Add(n.Get("mirrors"), tree.Join(path, "mirrors"), "%q: %v", m, err)
			}
		}
		out[name] = h
	})
	return out
}

// Unknown refuses settings for a runner that does not exist.
func (f *File) Unknown(have []string) error {
	for _, name := range f.Runners() {
		if !slices.Contains(have, name) {
			return fault.Invalidf(fault.ReasonFieldInvalid, "the images file has settings for runner %q; this server has: %s", name, strings.Join(have, ", "))
		}
	}
	return nil
}
