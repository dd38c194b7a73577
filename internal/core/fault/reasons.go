package fault

// Domain is the ErrorInfo domain that published clients trust.
const Domain = "cwsandbox.com"

// Reasons that published clients know. Only these carry the prefix.
const (
	ReasonNoSuitableRunner     = "CWSANDBOX_NO_SUITABLE_RUNNER"
	ReasonProfileMismatch      = "CWSANDBOX_PROFILE_MISMATCH"
	ReasonProfileNotFound      = "CWSANDBOX_PROFILE_NOT_FOUND"
	ReasonRunnerNotFound       = "CWSANDBOX_RUNNER_NOT_FOUND"
	ReasonRunnerUnavailable    = "CWSANDBOX_RUNNER_UNAVAILABLE"
	ReasonSandboxNotFound      = "CWSANDBOX_SANDBOX_NOT_FOUND"
	ReasonSandboxNotRunning    = "CWSANDBOX_SANDBOX_NOT_RUNNING"
	ReasonCommandTimeout       = "CWSANDBOX_COMMAND_TIMEOUT"
	ReasonCommandNotFound      = "CWSANDBOX_COMMAND_NOT_FOUND"
	ReasonExecFailed           = "CWSANDBOX_EXEC_FAILED"
	ReasonFileNotFound         = "CWSANDBOX_FILE_NOT_FOUND"
	ReasonFileIsDirectory      = "CWSANDBOX_FILE_IS_DIRECTORY"
	ReasonFilePermissionDenied = "CWSANDBOX_FILE_PERMISSION_DENIED"
	ReasonFileTooLarge         = "CWSANDBOX_FILE_TOO_LARGE"
	ReasonFileIOFailed         = "CWSANDBOX_FILE_IO_FAILED"
	ReasonInvalidRequest       = "CWSANDBOX_INVALID_REQUEST"
	ReasonResourceNotFound     = "CWSANDBOX_RESOURCE_NOT_FOUND"
	ReasonNotImplemented       = "CWSANDBOX_NOT_IMPLEMENTED"
)

// Reasons of our own.
const (
	ReasonFieldUnknown       = "FIELD_UNKNOWN"
	ReasonFieldInvalid       = "FIELD_INVALID"
	ReasonFieldImmutable     = "FIELD_IMMUTABLE"
	ReasonFieldOutputOnly    = "FIELD_OUTPUT_ONLY"
	ReasonSyntax             = "SYNTAX"
	ReasonMaskInvalid        = "MASK_INVALID"
	ReasonGuardrailViolated  = "GUARDRAIL_VIOLATED"
	ReasonOverrideWidens     = "OVERRIDE_WIDENS"
	ReasonUnresolvable       = "UNRESOLVABLE"
	ReasonProfileBound       = "PROFILE_BOUND"
	ReasonProfileExists      = "PROFILE_EXISTS"
	ReasonRunnerExists       = "RUNNER_EXISTS"
	ReasonRunnerHasSandboxes = "RUNNER_HAS_SANDBOXES"
	ReasonBindingsInvalid    = "BINDINGS_INVALID"
	ReasonZoneInUse          = "ZONE_IN_USE"
	ReasonZoneNotFound       = "ZONE_NOT_FOUND"
	ReasonEtagMismatch       = "ETAG_MISMATCH"
	ReasonReplanExhausted    = "REPLAN_EXHAUSTED"
	ReasonPageTokenInvalid   = "PAGE_TOKEN_INVALID"
	ReasonTokenInvalid       = "TOKEN_INVALID"
	ReasonRoleMissing        = "ROLE_MISSING"
	ReasonLimitExceeded      = "LIMIT_EXCEEDED"
	ReasonUsageExceeded      = "USAGE_EXCEEDED"
	ReasonDigestMismatch     = "DIGEST_MISMATCH"
	ReasonBackendUnsupported = "BACKEND_UNSUPPORTED"
	ReasonImageInvalid       = "IMAGE_INVALID"
	ReasonImageNotFound      = "IMAGE_NOT_FOUND"
	ReasonRuntimeNotFound    = "RUNTIME_NOT_FOUND"
	ReasonStoreUnavailable   = "STORE_UNAVAILABLE"
)
