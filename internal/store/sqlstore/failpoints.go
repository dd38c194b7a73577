package sqlstore

// The failpoints of this package: after every statement that writes, and around the commit. A crash at any of them before
// store.after-commit leaves nothing of the transaction, one at or after it leaves all.
const (
	fpMigrate       = "store.before-migrate"
	fpMigrated      = "store.after-migrate"
	fpInsertObject  = "store.insert-object"
	fpInsertRev     = "store.insert-revision"
	fpUpdateObject  = "store.update-object"
	fpDeleteObject  = "store.delete-object"
	fpSetCapacity   = "store.set-capacity"
	fpReserve       = "store.reserve"
	fpRelease       = "store.release"
	fpHeard         = "store.heard"
	fpServer        = "store.server"
	fpOwner         = "store.owner"
	fpSecretStore   = "store.secret-store"
	fpSecret        = "store.secret"
	fpLease         = "store.lease"
	fpInsertSandbox = "store.insert-sandbox"
	fpInsertRecord  = "store.insert-record"
	fpInsertTag     = "store.insert-tag"
	fpUpdateSandbox = "store.update-sandbox"
	fpSubmitted     = "store.insert-submission"
	fpDeleteSandbox = "store.delete-sandbox"
	fpInsertOrg     = "store.insert-org"
	fpInsertToken   = "store.insert-token"
	fpRevokeToken   = "store.revoke-token"
	fpAppendChange  = "store.append-change"
	fpAudit         = "store.insert-audit"
	fpSeal          = "store.seal-audit"
	fpPrune         = "store.prune-audit"
	fpBeforeCommit  = "store.before-commit"
	fpAfterCommit   = "store.after-commit"
)

// Failpoints lists the failpoints of this package that a server passes in its first day. store.delete-sandbox and store.prune-audit are not among
// them, as nothing is kept for less, nor store.heard and store.server: a server that has its database to itself has nobody to tell;
// nor store.owner, which takes somebody who applies files, and store.lease, somebody who holds one.
func Failpoints() []string {
	return []string{
		fpMigrate, fpMigrated, fpInsertObject, fpInsertRev, fpUpdateObject, fpDeleteObject, fpSetCapacity, fpReserve, fpRelease,
		fpInsertSandbox, fpInsertRecord, fpInsertTag, fpUpdateSandbox, fpSubmitted, fpSecretStore, fpSecret, fpInsertOrg, fpInsertToken, fpRevokeToken,
		fpAppendChange, fpAudit, fpSeal, fpBeforeCommit, fpAfterCommit,
	}
}
