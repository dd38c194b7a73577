"""Every public function, method, property and class of the client is entered by a test of this run, or is said why not. What is new in a client
fails this, and what a test came to enter as well."""

import cwsandbox
import entered

# What no test enters, with the reason.
LEFT_OUT = {
    **dict.fromkeys([
        "FileSystemSnapshot", "FileSystemSnapshotBucketConfig", "SandboxSnapshotError", "SnapshotBackendThrottledError", "SnapshotBucketMismatchError",
        "SnapshotNotFoundError", "SnapshotNotReadyError", "SnapshotNotSupportedError", "SnapshotQuotaExceededError", "SnapshotSizeExceededError",
        "SnapshotWaitTimeoutError",
    ], "the server keeps no snapshots, and refuses every call about them by one reason: test_what_is_not_there_says_so"),
    **dict.fromkeys(["CWSandboxError", "FunctionError"], "a base of others, and never raised itself"),
    "SandboxCommandTimeoutError": "of the call Exec, which this client does not make: it streams every command, and has its own deadline",
    "SandboxStreamBackpressureError": "no command is ended for a slow reader: it waits. Of logs, where output may be discarded, it is a SandboxError",
    "SandboxStreamTruncatedError": "no output of a command is lost: an end that nobody saw is EXEC_FAILED or RUNNER_UNAVAILABLE",
    "SandboxTerminalStateUnavailableError": "of a sandbox that is not found after it was stopped: what ended is kept for days",
}


def test_every_public_name_is_entered():
    public = {name for name, _ in entered.surface()}
    assert len(public) > 150
    assert sorted(public - entered.seen - LEFT_OUT.keys()) == []
    assert sorted(LEFT_OUT.keys() & entered.seen) == [], "these are entered after all"
    assert sorted(LEFT_OUT.keys() - public) == [], "the client has these no more"


def test_what_is_looked_at():
    """That what is told as entered is what was: a name without a call is not there, one with a call is, by whatever syntax."""
    name = "SandboxDefaults.merge_annotations"
    before = name in entered.seen
    entered.seen.discard(name)
    assert cwsandbox.SandboxDefaults.merge_annotations is not None and name not in entered.seen
    assert cwsandbox.SandboxDefaults(annotations={"a": "1"}).merge_annotations({"b": "2"}) == {"a": "1", "b": "2"}
    assert name in entered.seen and "SandboxDefaults" in entered.seen
    if not before:
        entered.seen.discard(name)
