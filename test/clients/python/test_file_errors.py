"""Every way in which a file cannot be read or written: a typed error, with the file and the sandbox, over the published client."""

import pytest

import cwsandbox

LONG = "/tmp/" + "x" * 300

READ = [
    ("/tmp/none-such", "CWSANDBOX_FILE_NOT_FOUND"),
    ("/tmp/none-such/file", "CWSANDBOX_FILE_NOT_FOUND"),
    ("/tmp", "CWSANDBOX_FILE_IS_DIRECTORY"),
    ("/tmp/to-directory", "CWSANDBOX_FILE_IS_DIRECTORY"),
    ("/tmp/loop", "CWSANDBOX_FILE_IO_FAILED"),
    ("/tmp/pipe", "CWSANDBOX_FILE_IO_FAILED"),
    ("/dev/zero", "CWSANDBOX_FILE_IO_FAILED"),
    ("/proc/self/mem", "CWSANDBOX_FILE_IO_FAILED"),
    ("relative", "CWSANDBOX_INVALID_REQUEST"),
    ("/tmp/a\0b", "CWSANDBOX_INVALID_REQUEST"),
    (LONG, "CWSANDBOX_INVALID_REQUEST"),
    ("/" + "x/" * 2500, "CWSANDBOX_INVALID_REQUEST"),
]

WRITE = [
    ("/tmp", "CWSANDBOX_FILE_IS_DIRECTORY"),
    ("/tmp/loop", "CWSANDBOX_FILE_IO_FAILED"),
    ("/tmp/pipe", "CWSANDBOX_FILE_IO_FAILED"),
    ("/dev/null", "CWSANDBOX_FILE_IO_FAILED"),
    ("/tmp/file/below", "CWSANDBOX_FILE_IO_FAILED"),
    ("/proc/none-such", "CWSANDBOX_FILE_IO_FAILED"),
    ("relative", "CWSANDBOX_INVALID_REQUEST"),
    ("/tmp/a\0b", "CWSANDBOX_INVALID_REQUEST"),
    (LONG, "CWSANDBOX_INVALID_REQUEST"),
]


@pytest.fixture
def strange(sandbox):
    """A sandbox with what is no regular file."""
    made = sandbox.exec(["sh", "-c", "ln -sf /tmp/loop /tmp/loop; ln -sfn /tmp /tmp/to-directory; rm -f /tmp/pipe; mkfifo /tmp/pipe; echo x > /tmp/file"]).result()
    assert made.returncode == 0, made.stderr
    return sandbox


def check(error, sandbox, path, reason):
    assert error.reason == reason, error
    assert error.metadata["sandbox_id"] == sandbox.sandbox_id
    assert error.metadata["filepath"][:1000] == path[:1000]  # long texts are cut, so that an error fits into a trailer


@pytest.mark.parametrize("path, reason", READ, ids=lambda v: repr(v[:30]))
def test_read(strange, path, reason):
    with pytest.raises(cwsandbox.SandboxError) as e:
        strange.read_file(path).result()
    check(e.value, strange, path, reason)


@pytest.mark.parametrize("path, reason", WRITE, ids=lambda v: repr(v[:30]))
def test_write(strange, path, reason):
    with pytest.raises(cwsandbox.SandboxError) as e:
        strange.write_file(path, b"x").result()
    check(e.value, strange, path, reason)


@pytest.mark.parametrize("name", ["a b", "50%25", "q?x#y", "b\u00fccher", "new\nline", "quote'\"", ".hidden", "-dash"])
def test_odd_names(sandbox, name):
    sandbox.write_file("/tmp/" + name, b"odd").result()
    assert sandbox.read_file("/tmp/" + name).result() == b"odd"
