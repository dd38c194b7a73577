package control

// The failpoints of this package: before every transaction and every call over a link, and after those whose effect a crash
// must not lose. Which of the two a name is, it says.
const (
	fpProfileInsert     = "control.before-profile-insert"
	fpProfileUpdate     = "control.before-profile-update"
	fpProfileDelete     = "control.before-profile-delete"
	fpRunnerInsert      = "control.before-runner-insert"
	fpRunnerUpdate      = "control.before-runner-update"
	fpRunnerDelete      = "control.before-runner-delete"
	fpRunnerDrained     = "control.before-runner-drain-commit"
	fpZonePut           = "control.before-zone-put"
	fpZoneDelete        = "control.before-zone-delete"
	fpOrgInsert         = "control.before-org-insert"
	fpTokenInsert       = "control.before-token-insert"
	fpTokenRevoke       = "control.before-token-revoke"
	fpBootstrap         = "control.before-bootstrap-commit"
	fpCapacity          = "control.before-capacity-commit"
	fpLaunchCommit      = "control.before-launch-commit"
	fpLaunchCommitted   = "control.after-launch-commit"
	fpApplied           = "control.after-apply"
	fpStatusCommit      = "control.before-status-commit"
	fpStatusCommitted   = "control.after-status-commit"
	fpStop              = "control.before-stop"
	fpStopped           = "control.after-stop"
	fpPause             = "control.before-pause"
	fpPaused            = "control.after-pause"
	fpSuspend           = "control.before-suspend"
	fpSuspended         = "control.after-suspend"
	fpResume            = "control.before-resume"
	fpResumed           = "control.after-resume"
	fpCleanup           = "control.before-cleanup"
	fpCleaned           = "control.after-cleanup"
	fpLeaseEnd          = "control.before-lease-end"
	fpLeaseEnded        = "control.after-lease-end"
	fpCollect           = "control.before-collect"
	fpExec              = "control.before-exec"
	fpExecCreate        = "control.before-exec-create"
	fpExecCreated       = "control.after-exec-create"
	fpExecAttach        = "control.before-exec-attach"
	fpLogs              = "control.before-logs"
	fpReadArchive       = "control.before-read-archive"
	fpWriteArchive      = "control.before-write-archive"
	fpReadFile          = "control.before-read-file"
	fpWriteFile         = "control.before-write-file"
	fpReadFileFrom      = "control.before-read-file-from"
	fpWriteFileFrom     = "control.before-write-file-from"
	fpFileState         = "control.before-file-state"
	fpImagePull         = "control.before-image-pull"
	fpImageRemove       = "control.before-image-remove"
	fpImageImport       = "control.before-image-import"
	fpRecovered         = "control.after-recover-read"
	fpSetPools          = "control.before-set-pools"
	fpFirstPassObserved = "control.after-first-pass"
	fpRunnerJoin        = "control.runner-before-join"
	fpRunnerEnrol       = "control.runner-before-enrol"
	fpRunnerEnrolled    = "control.runner-after-enrol"
	fpRunnerRenew       = "control.runner-before-renew"
	fpRunnerRetire      = "control.runner-before-retire"
	fpSecretWrite       = "control.before-secret-write"
)

// Failpoints lists the failpoints of this package.
func Failpoints() []string {
	return []string{
		fpImagePull, fpImageRemove, fpImageImport,
		fpProfileInsert, fpProfileUpdate, fpProfileDelete, fpRunnerInsert, fpRunnerUpdate, fpRunnerDelete, fpRunnerDrained,
		fpZonePut, fpZoneDelete, fpOrgInsert, fpTokenInsert, fpTokenRevoke, fpBootstrap, fpCapacity,
		fpLaunchCommit, fpLaunchCommitted, fpApplied, fpStatusCommit, fpStatusCommitted, fpStop, fpStopped, fpPause, fpPaused, fpSuspend, fpSuspended, fpResume, fpResumed, fpCleanup, fpCleaned,
		fpLeaseEnd, fpLeaseEnded, fpCollect, fpExec, fpExecCreate, fpExecCreated, fpExecAttach, fpLogs, fpReadArchive, fpWriteArchive, fpReadFile, fpWriteFile, fpReadFileFrom, fpWriteFileFrom, fpFileState, fpRecovered, fpSetPools, fpFirstPassObserved,
		fpRunnerJoin, fpRunnerEnrol, fpRunnerEnrolled, fpRunnerRenew, fpRunnerRetire, fpSecretWrite,
	}
}
