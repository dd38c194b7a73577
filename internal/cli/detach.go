package cli

import (
	"bytes"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/core/fault"
)

// defaultDetachKeys are those of other tools.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// maxDetachKeys is how many keys the sequence may have.
const maxDetachKeys = 16

// errDetached is how a command ends for a person who typed the detach keys.
var errDetached = errors.New("detached")

func (x *execFlags) bindDetachKeys(c *cobra.Command) {
	c.Flags().StringVar(&x.detachKeys, "detach-keys", defaultDetachKeys, `keys that leave a terminal, as in "ctrl-p,ctrl-q"; "" for none`)
}

// detachSequence returns the bytes that a terminal sends for keys such as "ctrl-p,ctrl-q" or "~,.".
func detachSequence(keys string) ([]byte, error) {
	if keys == "" {
		return nil, nil
	}
	var out []byte
	for name := range strings.SplitSeq(keys, ",") {
		ctrl, control := strings.CutPrefix(name, "ctrl-")
		switch {
		case !control && len(name) == 1 && name[0] > ' ' && name[0] < 0x7f:
			out = append(out, name[0])
		case control && len(ctrl) == 1 && ctrl[0] >= 'a' && ctrl[0] <= 'z':
			out = append(out, ctrl[0]-'a'+1)
		case control && len(ctrl) == 1 && strings.Contains(`@[\]^_`, ctrl):
			out = append(out, ctrl[0]-'@')
		default:
			return nil, fault.Invalidf("USAGE", "--detach-keys %q: %q is no key", keys, name).
				WithHint(`Use single characters and ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\, ctrl-], ctrl-^ and ctrl-_, with commas between; "" for none.`)
		}
	}
	if len(out) > maxDetachKeys {
		return nil, fault.Invalidf("USAGE", "--detach-keys %q: %d keys, at most %d are possible", keys, len(out), maxDetachKeys)
	}
	return out, nil
}

// detacher finds the detach keys in what is typed. What may be their beginning is held back until the next key.
type detacher struct {
	keys, held []byte
}

// filter returns what goes to the command, and whether the keys were typed; what follows them goes nowhere.
func (d *detacher) filter(typed []byte) (out []byte, detached bool) {
	if len(d.keys) == 0 {
		return typed, false
	}
	for _, b := range typed {
		d.held = append(d.held, b)
		for !bytes.HasPrefix(d.keys, d.held) {
			out, d.held = append(out, d.held[0]), d.held[1:]
		}
		if len(d.held) == len(d.keys) {
			return out, true
		}
	}
	return out, false
}
