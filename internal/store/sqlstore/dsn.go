package sqlstore

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
)

// MaxDSN is the longest DSN, in bytes.
const MaxDSN = 8192

// target is what a DSN names.
type target struct {
	// engine is "sqlite" or "postgres".
	engine string
	// path is the SQLite file, url the PostgreSQL URL.
	path, url string
}

// parseDSN reads a DSN. Its text is in no error: it may hold a password.
func parseDSN(dsn string) (*target, error) {
	scheme, rest, ok := strings.Cut(dsn, "://")
	switch {
	case len(dsn) > MaxDSN:
		return nil, badDSN("has %d bytes, the limit is %d", len(dsn), MaxDSN)
	case !ok:
		return nil, badDSN("has no scheme")
	case strings.ContainsRune(dsn, 0):
		return nil, badDSN("contains a NUL byte")
	case scheme == "sqlite":
		if rest == "" || rest == ":memory:" || strings.HasSuffix(rest, "/") {
			return nil, badDSN("sqlite:// needs the path of a file")
		}
		path, err := filepath.Abs(rest)
		if err != nil {
			return nil, badDSN("the path cannot be made absolute").WithCause(err)
		}
		return &target{engine: "sqlite", path: path}, nil
	case scheme == "postgres" || scheme == "postgresql":
		if _, err := url.Parse(dsn); err != nil {
			return nil, badDSN("is not a PostgreSQL URL") // the parser's error would quote the password
		}
		return &target{engine: "postgres", url: dsn}, nil
	default:
		return nil, badDSN("the scheme %.20q is not known", scheme)
	}
}

func (t *target) open(ctx context.Context, cfg engineConfig) (engine, error) {
	if t.engine == "postgres" {
		return openPostgres(ctx, t.url, cfg)
	}
	return openSQLite(ctx, t.path, cfg)
}

func badDSN(format string, args ...any) *fault.Error {
	return fault.Invalidf(fault.ReasonFieldInvalid, "the address of the store cannot be used").
		WithField("store", format, args...).
		WithHint("give sqlite:///var/lib/berm/berm.db or postgres://user:password@host:5432/berm")
}
