package control

import (
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// roleOf is who may do what. Every use case is in it; a test walks the methods of Service and fails for one that is not.
func roleOf(method string) (core.Role, bool) {
	switch method {
	case "GetProfile", "ListProfiles", "ProfileRevisions", "DiffProfiles",
		"GetRunner", "ListRunners", "RunnerMaintenance", "CordonedRunners", "RunnerRevisions", "DiffRunners",
		"GetZone", "ListZones", "ZoneRevisions", "DiffZones",
		"WhoAmI", "ListOrgs",
		"Launch", "Plan", "Get", "List", "Outdated", "Lint", "Stop", "Pause", "Suspend", "Resume", "Fork", "Delete", "Wait", "Exec", "Logs", "ReadArchive", "WriteArchive", "ReadFile", "WriteFile", "ReadFileFrom", "WriteFileFrom", "FileState", "Dial", "PortLink", "Explain", "Submitted", "Network", "ExplainNetwork", "Drift", "PlanNetwork",
		"AvailableRunners", "AvailableRunner", "AvailableProfiles", "AvailableProfile":
		return core.RoleUser, true
	case "CreateProfile", "UpdateProfile", "DeleteProfile",
		"CreateRunner", "UpdateRunner", "DeleteRunner", "ApplyRunnerUpdate",
		"Preview", "RollbackProfile", "RollbackRunner", "RollbackZone",
		"CordonRunner", "UncordonRunner", "DrainRunner",
		"AddBinding", "UpdateBinding", "RemoveBinding", "SetDefaultBinding", "ConsolidateProfiles", "PromoteOverride",
		"PutZone", "DeleteZone",
		"ListImages", "PullImage", "RemoveImage", "ImportImage",
		"CreateToken", "ListTokens", "RevokeToken", "JoinRunner":
		return core.RoleAdmin, true
	case "CreateOrg", "WarmPools", "RunnerHealth":
		return core.RoleOperator, true
	}
	return "", false
}

// allow refuses a caller without the role of the method.
func (s *Service) allow(p core.Principal, method string) error {
	if p.OrgID == "" || p.Role == "" {
		return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "no valid token").
			WithHint("send the header Authorization: Bearer TOKEN")
	}
	need, known := roleOf(method)
	if !known {
		return fault.Internalf(nil, "no role is declared for %s", method)
	}
	if !p.Allows(need) {
		return fault.New(fault.Denied, fault.ReasonRoleMissing, "%s needs the role %s; %s has the role %s", method, need, p.Actor, p.Role).
			WithHint("use a token with the role %s: berm token create --role %s", need, need)
	}
	return nil
}
