// Package deploy is how Berm is installed on a Kubernetes cluster: charts in helm, and in manifests what they make of their defaults
// (`make generate`), for those who do not use Helm. Here are the commands and objects that make a cluster a runner.
package deploy

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// Chart is where the runner's chart is in the repository.
const Chart = "deploy/helm/berm-runner"

// What script/manifests renders in place of what an installation says.
const (
	imageHere   = "registry.example/berm:1"
	gatewayHere = "https://berm.example:7070"
	tokenHere   = "TOKEN"
	networkHere = "--kube-network=refused\n"
	caHere      = `  ca.crt: ""` + "\n"
	caFile      = "/etc/berm/ca.crt"

	repositoryHere = `\"images\":[\"registry.example/berm\"]`
	selfUpdateHere = `\"selfUpdate\":false`
)

//go:embed manifests/runner-account.yaml
var account string

//go:embed manifests/runner-self-update.yaml
var selfUpdate string

//go:embed manifests/runner.yaml
var runner string

// Runner says how a cluster becomes a runner.
type Runner struct {
	// Image is Berm's image; Gateway is where the runner connects; Token is what it enrols with.
	Image, Gateway, Token string
	// Network is what --kube-network is to be, "" for what the chart says.
	Network string
	// Wanted is what the deployment is to be besides. A runner that is to change its own is told by its server.
	Wanted rollout.Wanted
	// SelfUpdate lets it change its own deployment as its server asks, with images of the repository that Image is of.
	SelfUpdate bool
	// CAFile is a file with the authorities of the gateway's certificate, "" for the usual ones; CA is what is in it.
	CAFile, CA string
}

// Check finds what a cluster could not be told.
func (r *Runner) Check() error {
	if _, err := name.ParseReference(r.Image); err != nil {
		return fault.Invalidf("USAGE", "--image %q is no name of an image: %v", r.Image, err).
			WithHint("Name Berm's image as the nodes pull it; berm kube-image makes it.")
	}
	u, err := url.Parse(r.Gateway)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return fault.Invalidf("USAGE", "a runner on a cluster cannot connect to %q", r.Gateway).
			WithHint("Name the server as it is reached from there, with https: --gateway https://HOST:PORT.")
	}
	return nil
}

// Helm returns the command that installs the runner.
func (r *Runner) Helm() string {
	words := []string{"helm", "install", "berm-runner", Chart, "--namespace", "berm", "--create-namespace", "--set", "image=" + r.Image, "--set", "gateway.url=" + r.Gateway}
	if r.CAFile != "" {
		words = append(words, "--set-file", "gateway.ca="+strings.ReplaceAll(r.CAFile, ",", `\,`))
	}
	if r.Network != "" {
		words = append(words, "--set", "network="+r.Network)
	}
	if r.SelfUpdate {
		words = append(words, "--set", "selfUpdate.enabled=true")
	} else {
		words = append(words, values(r.Wanted)...)
	}
	return line(append(words, "--set", "token.value="+r.Token))
}

// line is a command for a shell.
func line(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quoted(w)
	}
	return strings.Join(out, " ")
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@=-]+$`)

// quoted is a word for a shell.
func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// edit is what stands in a manifest, how often, and what is to stand there.
type edit struct {
	old, new string
	times    int
}

// Manifest returns the objects that are the runner.
func (r *Runner) Manifest() (string, error) {
	gatewayArgument := "        - --gateway=" + gatewayHere + "\n"
	edits := []edit{
		{imageHere, r.Image, 3},
		{repositoryHere, strings.Replace(repositoryHere, imageHere[:strings.LastIndex(imageHere, ":")], repository(r.Image), 1), 1},
		{`"` + tokenHere + `"`, text(r.Token), 1},
		{gatewayArgument, strings.Replace(gatewayArgument, gatewayHere, r.Gateway, 1), 1},
	}
	if r.Network != "" {
		edits = append(edits, edit{networkHere, "--kube-network=" + r.Network + "\n", 1})
	}
	if r.CA != "" {
		edits = append(edits, edit{caHere, "  ca.crt: " + text(r.CA) + "\n", 1})
		edits[3].new += "        - --ca=" + caFile + "\n"
	}
	out := "apiVersion: v1\nkind: Namespace\nmetadata: {name: berm}\n" + account + runner
	w := r.Wanted
	if r.SelfUpdate {
		edits = append(edits, edit{selfUpdateHere, strings.Replace(selfUpdateHere, "false", "true", 1), 1})
		out, w = out+selfUpdate, rollout.Wanted{}
	}
	for _, e := range edits {
		if n := strings.Count(out, e.old); n != e.times {
			return "", fault.Internalf(nil, "the manifest of a runner has %q %d times", e.old, n)
		}
		out = strings.ReplaceAll(out, e.old, e.new)
	}
	return wanted(out, w)
}

// repository is that of an image, without tag and digest, as it was written: nodes compare nothing else.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		image = image[:i]
	}
	return image
}

// text is a string of YAML on one line.
func text(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return string(raw)
}
