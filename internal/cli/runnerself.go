package cli

import (
	"encoding/json"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// maxDeploymentFile is the largest file of --deployment, in bytes.
const maxDeploymentFile = 64 << 10

// revisionOf reads the revision of the deployment, 0 for none.
func revisionOf(text string) (int32, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fault.Invalidf("USAGE", "%s=%.40q is no revision", rollout.RevisionVar, text)
	}
	return int32(n), nil
}

// overriddenArgs parses the arguments among deployment overrides, as if they stood behind the others. What a gateway cannot give is not taken
// from there either.
func overriddenArgs(f *pflag.FlagSet, text string) error {
	if text == "" {
		return nil
	}
	var o rollout.Overrides
	if err := json.Unmarshal([]byte(text), &o.Args); err != nil {
		return fault.Invalidf("USAGE", "%s is no JSON list of texts: %v", rollout.ArgsVar, err)
	}
	e := fault.Invalidf("USAGE", "%s cannot be used", rollout.ArgsVar)
	if o.Check(e, rollout.ArgsVar); len(e.Fields) > 0 {
		return e
	}
	if err := f.Parse(o.Args); err != nil {
		return fault.Invalidf("USAGE", "%s: %v", rollout.ArgsVar, err)
	}
	return nil
}

// deploymentFile reads what the owner of a runner says of its deployment, nil for nothing.
func (s *session) deploymentFile(name string) (*app.Self, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // nothing is what was said
	}
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxDeploymentFile {
		return nil, fault.Invalidf("USAGE", "%s has %d bytes, more than %d", name, info.Size(), maxDeploymentFile)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	return app.DecodeSelf(name, raw)
}
