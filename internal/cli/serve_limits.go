package cli

import (
	"github.com/spf13/pflag"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxLimit is the most that a limit of `berm serve` can be set to.
const maxLimit = 1_000_000

// limitFlags are the flags of `berm serve` about how much of its API is open at a time.
type limitFlags struct{ connections, calls, perToken int }

func (l *limitFlags) bind(f *pflag.FlagSet) {
	f.IntVar(&l.connections, "max-connections", app.DefaultMaxConnections, "connections that are open at a time")
	f.IntVar(&l.calls, "max-calls", app.DefaultMaxCalls, "calls that are under way at a time, streams among them")
	f.IntVar(&l.perToken, "max-calls-per-token", 0, "calls of one token that are under way at a time (default: half of --max-calls)")
}

// read says which of them makes no sense.
func (l *limitFlags) read() (out app.Limits, err error) {
	perToken := l.perToken
	if perToken == 0 {
		perToken = max(1, l.calls/2)
	}
	for _, f := range []struct {
		name        string
		value, most int
	}{{"--max-connections", l.connections, maxLimit}, {"--max-calls", l.calls, maxLimit}, {"--max-calls-per-token", perToken, l.calls}} {
		if f.value < 1 || f.value > f.most {
			return out, fault.Invalidf("USAGE", "%s %d", f.name, f.value).WithHint("Give 1 to %d.", f.most)
		}
	}
	return app.Limits{Connections: l.connections, Calls: l.calls, CallsPerToken: perToken}, nil
}
