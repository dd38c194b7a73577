package app

import (
	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/host"
	"github.com/bermhq/berm/internal/store/sqlstore"
)

// Failpoints lists the places at which a server, or a shim that it started, can be killed on purpose.
func Failpoints() ([]string, error) {
	return failpoint.Register(control.Failpoints(), sqlstore.Failpoints(), local.Failpoints(), shim.Failpoints(), host.Failpoints())
}
