package control

import (
	"reflect"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/audit"
)

// reads are the use cases that change nothing, or only what nobody is asked about: the traffic of a connection, the heartbeat of a holder.
var reads = map[string]bool{
	"GetLease": true, "ListLeases": true, "RenewLease": true, "ListOrphans": true,
	"GetProfile": true, "ListProfiles": true, "ProfileRevisions": true, "DiffProfiles": true,
	"GetRunner": true, "ListRunners": true, "RunnerMaintenance": true, "CordonedRunners": true, "RunnerRevisions": true, "DiffRunners": true,
	"GetZone": true, "ListZones": true, "ZoneRevisions": true, "DiffZones": true, "WhoAmI": true, "ListOrgs": true, "ListTokens": true, "ListImages": true,
	"Plan": true, "Preview": true, "Get": true, "GetStarted": true, "List": true, "Outdated": true, "Lint": true, "Wait": true, "Watch": true, "Logs": true, "ReadArchive": true, "ReadFile": true,
	"ReadFileFrom": true, "FileState": true, "Dial": true, "GetExec": true, "ListExecs": true, "ReadExec": true, "AttachExec": true, "ResizeExec": true, "Explain": true, "Submitted": true, "Network": true, "ExplainNetwork": true, "Drift": true, "PlanNetwork": true,
	"AvailableRunners": true, "AvailableRunner": true, "AvailableProfiles": true, "AvailableProfile": true, "WarmPools": true, "RunnerHealth": true,
	"ListAudit": true, "VerifyAudit": true, "ExportAudit": true, "GetPolicyTests": true, "PolicyTestRevisions": true, "RunPolicyTests": true,
	"GetSecretStore": true, "ListSecretStores": true, "ListSecrets": true,
}

// TestEveryUseCaseIsAuditedOrReads: a use case that is new says which it is.
func TestEveryUseCaseIsAuditedOrReads(t *testing.T) {
	known := map[string]bool{}
	for m := range reflect.TypeFor[*Service]().Methods() {
		if _, ok := roleOf(m.Name); !ok {
			continue
		}
		known[m.Name] = true
		if mutates(m.Name) == reads[m.Name] {
			t.Errorf("%s: audited %v, only reads %v; one of them, please", m.Name, mutates(m.Name), reads[m.Name])
		}
	}
	for name := range reads {
		if !known[name] {
			t.Errorf("%s is no use case any more", name)
		}
	}
}

// TestLostRows: rows of what was done that find no room are counted as what they are, not as attempts that were refused.
func TestLostRows(t *testing.T) {
	q := &auditQueue{}
	for range maxAuditQueue + 100 {
		q.put(auditRow{"org", audit.Row{Method: "Exec", Actor: "token:x", Outcome: audit.Done}}, func() {})
	}
	by := map[string]int64{}
	for batch := q.take(time.Now()); len(batch) > 0; batch = q.take(time.Now()) {
		for _, r := range batch {
			by[r.row.Outcome] += max(1, r.row.Count)
		}
	}
	if len(by) != 2 || by[audit.Done] != maxAuditQueue || by[audit.Lost] != 100 {
		t.Errorf("rows by outcome: %v", by)
	}
}
