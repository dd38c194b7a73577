"""Files both ways, of all sizes, and errors that say which file and why."""

import hashlib
import os

import pytest

import cwsandbox


@pytest.mark.parametrize("size", [0, 1, 65537, 1 << 20, 40 << 20])
def test_round_trip(sandbox, size):
    content = os.urandom(size)
    sandbox.write_file("/tmp/file", content).result()
    assert sandbox.read_file("/tmp/file").result() == content
    assert sandbox.exec(["sha256sum", "/tmp/file"]).result().stdout.split()[0] == hashlib.sha256(content).hexdigest()


def test_streaming(sandbox):
    piece, count = os.urandom(1 << 20), 64
    sandbox.write_file_streaming("/tmp/stream", iter([piece] * count)).result()
    digest, size = hashlib.sha256(), 0
    for chunk in sandbox.read_file_streaming("/tmp/stream"):
        digest.update(chunk)
        size += len(chunk)
    assert size == count * len(piece)
    assert digest.hexdigest() == hashlib.sha256(piece * count).hexdigest()


@pytest.mark.parametrize("path, reason", [
    ("/tmp/none-such", "CWSANDBOX_FILE_NOT_FOUND"),
    ("/tmp", "CWSANDBOX_FILE_IS_DIRECTORY"),
])
def test_read_errors(sandbox, path, reason):
    with pytest.raises(cwsandbox.SandboxFileError) as e:
        sandbox.read_file(path).result()
    assert e.value.reason == reason
    assert e.value.filepath == e.value.metadata["filepath"] == path


def test_too_large_for_one_call(sandbox):
    # Larger than what the client would stream by itself; without blocks on the disk.
    assert sandbox.exec(["truncate", "-s", "300M", "/tmp/large"]).result().returncode == 0
    with pytest.raises(cwsandbox.SandboxFileError) as e:
        sandbox.read_file("/tmp/large").result()
    assert (e.value.reason, e.value.filepath) == ("CWSANDBOX_FILE_TOO_LARGE", "/tmp/large")
    assert int(e.value.metadata["size_bytes"]) == 300 << 20
    assert int(e.value.metadata["max_size_bytes"]) == 32 << 20
    sandbox.exec(["rm", "/tmp/large"]).result()


def test_write_errors(sandbox):
    with pytest.raises(cwsandbox.SandboxError) as e:
        sandbox.write_file("/proc/none-such", b"x").result()
    assert "/proc/none-such" in str(e.value)


def test_overwrite_is_whole(sandbox):
    sandbox.write_file("/tmp/over", b"a long text").result()
    sandbox.write_file("/tmp/over", b"short").result()
    assert sandbox.read_file("/tmp/over").result() == b"short"
