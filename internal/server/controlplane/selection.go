package controlplane

import (
	"strings"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
)

func profileSelection(m *v1beta2pb.ListProfileTemplatesRequest) control.ProfileSelection {
	return control.ProfileSelection{Labels: m.GetLabelSelector()}
}

// runnerSelection refuses numbers of statuses that have no name.
func runnerSelection(m *v1beta2pb.ListRunnersRequest) (control.RunnerSelection, error) {
	f := control.RunnerSelection{Labels: m.GetLabelSelector(), Zone: m.GetZone(), Profile: m.GetProfile()}
	wrong := fault.Invalidf(fault.ReasonFieldInvalid, "invalid filter")
	if n := m.GetInstallStatus(); n != 0 {
		if f.Install = control.InstallStatus(strings.TrimPrefix(n.String(), "RUNNER_INSTALL_STATUS_")); installStatus(f.Install) != n {
			return f, wrong.WithField("install_status", "no runner is ever %s", n)
		}
	}
	if n := m.GetConnectionStatus(); n != 0 {
		if f.Connection = control.ConnectionStatus(strings.TrimPrefix(n.String(), "RUNNER_CONNECTION_STATUS_")); connectionStatus(f.Connection) != n {
			return f, wrong.WithField("connection_status", "no runner is ever %s", n)
		}
	}
	return f, nil
}
