package cli

import (
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/core/fault"
)

// machineFlags are the flags of `berm serve` and `berm runner` about how sandboxes run on this machine.
type machineFlags struct {
	aliases, labels []string
	images          string
	net             networkFlags
}

func (m *machineFlags) bind(f *pflag.FlagSet, cfg *app.Config) {
	f.StringArrayVar(&m.aliases, "image-alias", nil, "image REF=oci:DIR[:NAME], REF=host or REF=IMAGE that it stands for, repeatable")
	f.StringVar(&m.images, "images", "", "YAML file with registries, credentials by reference, mirrors, aliases (see docs/local.md)")
	f.StringArrayVar(&m.labels, "node-label", nil, "label KEY=VALUE of this machine that node selectors are matched with, repeatable")
	f.StringVar(&cfg.Runtime, "runtime", "", "name of the default OCI runtime (default: crun, else runc, else runsc)")
	f.StringArrayVar(&cfg.OCIRuntimes, "oci-runtime", nil, "OCI runtime NAME=PATH[,kind=crun|runc|runsc][,flag=--FLAG]... that profiles may name as runtime_class, repeatable")
	m.net.bind(f)
}

// outputFlags say what is kept of what main processes print.
func outputFlags(f *pflag.FlagSet, cfg *app.Config) {
	f.DurationVar(&cfg.OutputRetention, "output-retention", app.DefaultOutputRetention, "how long output of main processes is kept after their sandbox has ended")
	f.Int64Var(&cfg.OutputLimit, "output-limit", app.DefaultOutputLimit, "bytes of output kept of each main process; older output is discarded")
}

func (m *machineFlags) read(s *session, cfg *app.Config) (err error) {
	if cfg.ImageAliases, err = pairs("--image-alias", m.aliases, nil); err != nil {
		return err
	}
	if cfg.NodeLabels, err = pairs("--node-label", m.labels, nil); err != nil {
		return err
	}
	if cfg.Images, err = s.imagesFile(m.images); err != nil {
		return err
	}
	cfg.Network, err = m.net.read()
	return err
}

// logFlags say how a process that stays logs.
type logFlags struct {
	verbose bool
	format  string
}

func (l *logFlags) bind(f *pflag.FlagSet) {
	f.BoolVarP(&l.verbose, "verbose", "v", false, "log every call")
	f.StringVar(&l.format, "log-format", "text", "text or json")
}

func (l *logFlags) logger(s *session) (*slog.Logger, error) {
	level := slog.LevelInfo
	if l.verbose {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(s.Err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(s.Err, options)), nil
	}
	return nil, fault.Invalidf("USAGE", "unknown log format %q", l.format).WithHint("Use text or json.")
}
