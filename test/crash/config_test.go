//go:build crash

package crash

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// config writes configuration and remembers what was confirmed.
type config struct {
	m       *machine
	profile struct{ ID string }
	calls   int
	// edits counts the changes of the default profile that were sent, confirmed those that were answered, last is the newest of
	// them.
	edits, confirmed, last int
	// things are what was made, by the path that shows it.
	things []*thing
}

// declare gives the default profile a mode with a network, and one in which names are answered.
func (c *config) declare() {
	network := `{"egress":{"default":"none","modes":{"none":{"type":"none"},"` + onlineMode + `":{"type":"internet"},"` + namedMode + `":{"type":"allowlist","dnsNames":["*.` + namedDomain + `"]}}}}`
	edit := map[string]any{"profileTemplate": map[string]any{"spec": map[string]any{"networkConfigJson": network}}, "updateMask": "spec.networkConfigJson"}
	c.send("PATCH", "/v1beta2/sandbox/profile-templates/"+c.profile.ID, edit, nil)
}

// first is how many revisions the default profile has without edits: that of the bootstrap, and that of declare.
const first = 2

// thing is one object of the configuration.
type thing struct {
	// shown reports whether the object is there.
	name  string
	shown func() bool
	// there is what was confirmed last. doubt: something was asked for since, without an answer.
	there, doubt bool
}

func newConfig(m *machine) *config { return &config{m: m} }

// send makes a write that must succeed, or go without an answer because the server died. It reports which.
func (c *config) send(method, path string, in any, out any) bool {
	raw, code := c.m.call(method, path, in)
	c.calls++
	if code == 0 {
		return false
	}
	if code/100 != 2 {
		c.m.t.Errorf("%s %s: %d %s", method, path, code, raw)
		return false
	}
	if out != nil && json.Unmarshal(raw, out) != nil {
		c.m.t.Errorf("%s %s: %s", method, path, raw)
	}
	return true
}

// put makes a write that brings a thing into being or changes it.
func (c *config) put(t *thing, method, path string, in, out any) bool {
	t.doubt = true
	c.things = append(c.things, t)
	if !c.send(method, path, in, out) {
		return false
	}
	t.there, t.doubt = true, false
	return true
}

// remove makes a write that ends a thing.
func (c *config) remove(t *thing, path string) bool {
	t.doubt = true
	if !c.send("DELETE", path, nil, nil) {
		return false
	}
	t.there, t.doubt = false, false
	return true
}

// at is a thing that a GET of its path shows.
func (c *config) at(path string) *thing {
	return &thing{name: path, shown: func() bool { _, code := c.m.call("GET", path, nil); return code == http.StatusOK }}
}

// change makes, changes and deletes one of each. It stops at the first write that was not answered.
func (c *config) change(i int) {
	const v1beta2, berm = "/v1beta2/sandbox/", "/berm/v1/"
	name := fmt.Sprintf("n%d-%d", len(c.things), i)
	c.edits++
	edit := map[string]any{"profileTemplate": map[string]any{"description": edited(c.edits)}, "updateMask": "description"}
	if !c.send("PATCH", v1beta2+"profile-templates/"+c.profile.ID, edit, nil) {
		return
	}
	c.confirmed++
	c.last = c.edits

	var profile, token struct{ ID, Token string }
	// What a profile's path is, its answer tells; until then its name stands for it.
	byName := c.at(v1beta2 + "profile-templates/" + name)
	if !c.put(byName, "POST", v1beta2+"profile-templates", map[string]any{"profileTemplate": map[string]any{"displayName": name, "spec": map[string]any{}}}, &profile) {
		return
	}
	runner := c.at(v1beta2 + "managed-runners/" + name)
	fields := map[string]any{"identity": map[string]any{"zone": "z", "clusterName": name}, "profileBindings": []any{map[string]any{"profileTemplateId": profile.ID, "isDefault": true}}}
	zone, org := c.at(berm+"zones/"+name), &thing{name: "organization " + name, shown: func() bool { return slices.Contains(c.orgs(), name) }}
	login := &thing{name: "token " + name, shown: func() bool {
		_, code := c.m.callAs(token.Token, "GET", berm+"whoami", nil)
		return code == http.StatusOK
	}}
	const stores = "/v1beta2/secretstores"
	secrets := c.at(stores + "/" + name)
	steps := []func() bool{
		func() bool {
			return c.put(secrets, "POST", stores, map[string]any{"name": name, "providerType": "SECRET_STORE_PROVIDER_TYPE_BERM"}, nil)
		},
		func() bool {
			return c.send("PUT", berm+"secretstores/"+name+"/secrets/p", map[string]any{"fields": map[string]any{"value": "eA=="}}, nil)
		},
		func() bool { return i%2 == 1 || c.remove(secrets, secrets.name) },
		func() bool {
			return c.put(runner, "POST", v1beta2+"managed-runners", map[string]any{"runnerId": name, "runner": fields}, nil)
		},
		func() bool {
			return c.send("PATCH", runner.name, map[string]any{"runner": map[string]any{"displayName": name}, "updateMask": "display_name"}, nil)
		},
		func() bool {
			return c.put(zone, "PUT", zone.name, map[string]any{"zone": map[string]any{"defaults": map[string]any{"tags": []string{"x"}}}}, nil)
		},
		func() bool { return c.put(org, "POST", berm+"orgs", map[string]any{"name": name}, nil) },
		func() bool {
			return c.put(login, "POST", berm+"tokens", map[string]any{"name": name, "role": "user"}, &token)
		},
		func() bool { return i%2 == 1 || c.remove(login, berm+"tokens/"+token.ID) },
		func() bool { return i%2 == 1 || c.remove(zone, zone.name) },
		func() bool { return i%2 == 1 || c.remove(runner, runner.name+"?force=true") },
		func() bool { return i%2 == 1 || c.remove(byName, v1beta2+"profile-templates/"+profile.ID) },
	}
	for _, step := range steps {
		if !step() {
			return
		}
	}
}

func edited(n int) string { return "edit " + strconv.Itoa(n) }

func (c *config) orgs() []string {
	var names []string
	for token := ""; ; {
		var page struct {
			Orgs          []struct{ Name string }
			NextPageToken string
		}
		c.m.read("/berm/v1/orgs?pageToken="+token, &page)
		for _, o := range page.Orgs {
			names = append(names, o.Name)
		}
		if token = page.NextPageToken; token == "" {
			return names
		}
	}
}

// verify checks that what was confirmed is there, and that revisions count without a gap.
func (c *config) verify() {
	t := c.m.t
	t.Helper()
	for _, x := range c.things {
		if there := x.shown(); !x.doubt && there != x.there {
			t.Errorf("%s: there is %v, %v was confirmed", x.name, there, x.there)
		}
	}
	var now struct{ Description string }
	c.m.read("/v1beta2/sandbox/profile-templates/"+c.profile.ID, &now)
	if c.last > 0 && now.Description != edited(c.last) && now.Description != edited(c.edits) {
		t.Errorf("the profile is %q; edit %d was confirmed last and %d sent", now.Description, c.last, c.edits)
	}
	c.revisions("profiles/" + c.profile.ID)
	c.revisions("runners/local")
}

// revisions checks that an object's count down to 1 and that the newest is the object.
func (c *config) revisions(path string) {
	t := c.m.t
	t.Helper()
	numbers := c.numbers(path)
	for i, n := range numbers {
		if n != len(numbers)-i {
			t.Errorf("revisions of %s: %v, want all from %d down to 1", path, numbers, len(numbers))
			return
		}
	}
	if path == "profiles/"+c.profile.ID && (len(numbers) < first+c.confirmed || len(numbers) > first+c.edits) {
		t.Errorf("%s has %d revisions; %d edits were confirmed and %d sent", path, len(numbers), c.confirmed, c.edits)
	}
}

// numbers lists the revisions of an object, the newest first.
func (c *config) numbers(path string) (numbers []int) {
	c.m.t.Helper()
	for token := ""; ; {
		var page struct {
			Revisions     []struct{ Revision int }
			NextPageToken string
		}
		c.m.read("/berm/v1/"+path+"/revisions?pageToken="+token, &page)
		for _, r := range page.Revisions {
			numbers = append(numbers, r.Revision)
		}
		if token = page.NextPageToken; token == "" {
			return numbers
		}
	}
}
