package app

import (
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// maxRelease is the longest version or image of a release, in bytes.
const maxRelease = 512

// ParseReleases reads CHANNEL=VERSION[,IMAGE]. A channel that is not named offers what own is; rapid what stable does.
func ParseReleases(values []string, own string) (rollout.Releases, error) {
	out := rollout.Releases{}
	for _, v := range values {
		channel, what, ok := strings.Cut(v, "=")
		version, image, _ := strings.Cut(what, ",")
		switch {
		case !ok || version == "" || len(v) > maxRelease || strings.ContainsAny(what, " \t\n"):
			return nil, fault.Invalidf("USAGE", "--release %.80q is not CHANNEL=VERSION or CHANNEL=VERSION,IMAGE", v).
				WithHint("VERSION is what berm --version of that release prints.")
		case channel != rollout.Stable && channel != rollout.Rapid:
			return nil, fault.Invalidf("USAGE", "--release %.80q: the channels are %s and %s", v, rollout.Stable, rollout.Rapid)
		}
		if _, twice := out[channel]; twice {
			return nil, fault.Invalidf("USAGE", "--release %s is given twice", channel)
		}
		out[channel] = rollout.Release{Version: version, Image: image}
	}
	if _, named := out[rollout.Stable]; !named {
		out[rollout.Stable] = rollout.Release{Version: own}
	}
	if _, named := out[rollout.Rapid]; !named {
		out[rollout.Rapid] = out[rollout.Stable]
	}
	return out, nil
}
