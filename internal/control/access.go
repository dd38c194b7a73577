package control

import (
	"context"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// roleOf is who may do what. Every use case is in it; a test walks the methods of Service and fails for one that is not.
func roleOf(method string) (core.Role, bool) {
	switch method {
	case "GetProfile", "ListProfiles", "ProfileRevisions", "DiffProfiles",
		"GetRunner", "ListRunners", "RunnerMaintenance", "CordonedRunners", "RunnerRevisions", "DiffRunners",
		"GetPolicyTests", "PolicyTestRevisions",
		"GetZone", "ListZones", "ZoneRevisions", "DiffZones",
		"GetSecretStore", "ListSecretStores", "ListSecrets",
		"WhoAmI", "ListOrgs",
		"CreateLease", "GetLease", "ListLeases", "RenewLease", "ReleaseLease", "ListOrphans",
		"Launch", "Plan", "Get", "GetStarted", "List", "Outdated", "Lint", "Stop", "Pause", "Suspend", "Resume", "Fork", "Delete", "Wait", "Exec", "CreateExec", "GetExec", "ListExecs", "ReadExec", "AttachExec", "WriteExecStdin", "SignalExec", "ResizeExec", "DeleteExec", "Logs", "ReadArchive", "WriteArchive", "ReadFile", "WriteFile", "ReadFileFrom", "WriteFileFrom", "FileState", "Dial", "PortLink", "Watch", "Explain", "Submitted", "Network", "ExplainNetwork", "Drift", "PlanNetwork",
		"AvailableRunners", "AvailableRunner", "AvailableProfiles", "AvailableProfile":
		return core.RoleUser, true
	case "CreateProfile", "UpdateProfile", "DeleteProfile",
		"CreateRunner", "UpdateRunner", "DeleteRunner", "ApplyRunnerUpdate",
		"Preview", "Apply", "RollbackProfile", "RollbackRunner", "RollbackZone",
		"CordonRunner", "UncordonRunner", "DrainRunner",
		"AddBinding", "UpdateBinding", "RemoveBinding", "SetDefaultBinding", "ConsolidateProfiles", "PromoteOverride",
		"PutPolicyTests", "DeletePolicyTests", "RunPolicyTests",
		"PutZone", "DeleteZone",
		"CreateSecretStore", "DeleteSecretStore", "PutSecret", "DeleteSecret",
		"ListImages", "PullImage", "RemoveImage", "ImportImage",
		"CreateToken", "ListTokens", "RevokeToken", "JoinRunner",
		"ListAudit", "VerifyAudit", "ExportAudit":
		return core.RoleAdmin, true
	case "CreateOrg", "WarmPools", "RunnerHealth", "RewrapSecretStores":
		return core.RoleOperator, true
	}
	return "", false
}

// mutates reports whether a use case changes something: all that it does, and all that it is refused, is audited.
func mutates(method string) bool {
	switch method {
	case "CreateProfile", "UpdateProfile", "DeleteProfile", "RollbackProfile", "ConsolidateProfiles", "PromoteOverride",
		"CreateRunner", "UpdateRunner", "DeleteRunner", "ApplyRunnerUpdate", "RollbackRunner", "CordonRunner", "UncordonRunner", "JoinRunner",
		"AddBinding", "UpdateBinding", "RemoveBinding", "SetDefaultBinding",
		"PutPolicyTests", "DeletePolicyTests",
		"PutZone", "DeleteZone", "RollbackZone", "Apply",
		"CreateOrg", "CreateToken", "RevokeToken", "CreateLease", "ReleaseLease",
		"CreateSecretStore", "DeleteSecretStore", "PutSecret", "DeleteSecret", "RewrapSecretStores",
		"Launch", "Fork":
		return true
	}
	return reachesOut(method)
}

// reachesOut reports whether what a use case changes is not in the store, so that no transaction tells of it.
func reachesOut(method string) bool {
	switch method {
	case "Stop", "Delete", "Pause", "Suspend", "Resume", "Exec", "CreateExec", "WriteExecStdin", "SignalExec", "DeleteExec", "WriteFile", "WriteFileFrom", "WriteArchive", "PortLink",
		"DrainRunner", "PullImage", "RemoveImage", "ImportImage":
		return true
	}
	return false
}

// allow refuses a caller without the role of the method, and begins to note what a mutation is about to do.
func (s *Service) allow(ctx context.Context, p core.Principal, method string, target ...audit.Target) error {
	if p.OrgID == "" || p.Role == "" {
		return fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "no valid token").
			WithHint("send the header Authorization: Bearer TOKEN")
	}
	if mutates(method) && !isPreview(ctx) {
		t := append(target, audit.Target{})[0]
		t.Ref, t.Reason = withoutTokens(t.Ref), withoutTokens(t.Reason)
		audit.Of(ctx).Begin(p, method, t)
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
