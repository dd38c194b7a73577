"""Commands in a sandbox: every byte, every exit code, in order, and never one that was not seen."""

import hashlib

import pytest

import cwsandbox
from conftest import PATIENCE, eventually


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_output_and_exit_code(sandbox, code):
    result = sandbox.exec(["sh", "-c", f"echo out; echo err >&2; exit {code}"]).result()
    assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err\n", code)


def test_signal(sandbox):
    assert sandbox.exec(["sh", "-c", "kill -TERM $$"]).result().returncode == 128 + 15


def test_check(sandbox):
    with pytest.raises(cwsandbox.SandboxExecutionError) as e:
        sandbox.exec(["sh", "-c", "echo no; exit 9"], check=True).result()
    assert e.value.exec_result.returncode == 9
    assert e.value.exec_result.stdout == "no\n"


def test_command_that_is_not_there(sandbox):
    with pytest.raises(cwsandbox.SandboxExecutionError, match="none-such"):
        sandbox.exec(["none-such"]).result()


def test_working_directory(sandbox):
    assert sandbox.exec(["pwd"], cwd="/tmp").result().stdout == "/tmp\n"


def test_output_comes_as_it_is_made(sandbox):
    # The second line is made when the first was read.
    process = sandbox.exec(["sh", "-c", "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; rm /tmp/go; echo two"])
    lines = iter(process.stdout)
    assert next(lines) == "one\n"
    sandbox.write_file("/tmp/go", b"").result()
    assert list(lines) == ["two\n"]
    assert process.result().returncode == 0


def test_stdin(sandbox):
    process = sandbox.exec(["sha256sum"], stdin=True)
    digest = hashlib.sha256()
    for i in range(64):
        piece = bytes([i]) * 65536
        digest.update(piece)
        process.stdin.write(piece).result()
    process.stdin.close().result()
    assert process.result().stdout.split()[0] == digest.hexdigest()


def test_large_output(sandbox):
    size = 32 << 20
    result = sandbox.exec(["python", "-c", f"import os, hashlib, sys\nb = os.urandom({size})\nsys.stdout.buffer.write(b)\nsys.stderr.write(hashlib.sha256(b).hexdigest())"]).result()
    assert len(result.stdout_bytes) == size
    assert hashlib.sha256(result.stdout_bytes).hexdigest() == result.stderr


def test_timeout_kills(sandbox):
    with pytest.raises(cwsandbox.SandboxTimeoutError):
        sandbox.exec(["sh", "-c", "exec sleep 31415"], timeout_seconds=1).result()
    eventually("it is gone", lambda: sandbox.exec(["pgrep", "-f", "sleep 31415"]).result().returncode == 1)


def test_cancel_kills(sandbox):
    process = sandbox.exec(["sh", "-c", "echo started; exec sleep 27182"])
    assert next(iter(process.stdout)) == "started\n"
    process.cancel()
    eventually("it is gone", lambda: sandbox.exec(["pgrep", "-f", "sleep 27182"]).result().returncode == 1)
    assert sandbox.exec(["true"]).result().returncode == 0


def test_many_at_once(sandbox):
    processes = [sandbox.exec(["sh", "-c", f"echo {i}; exit {i}"]) for i in range(50)]
    for i, process in enumerate(processes):
        result = process.result(timeout=PATIENCE)
        assert (result.stdout, result.returncode) == (f"{i}\n", i)


def test_shell(sandbox):
    terminal = sandbox.shell(["sh"], width=100, height=40)
    terminal.stdin.write(b"stty size; exit 4\n").result()
    output = b"".join(terminal.output)
    assert b"40 100" in output
    assert terminal.result().returncode == 4


def test_shell_resize(sandbox):
    terminal = sandbox.shell(["sh", "-c", "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done"], width=80, height=24)
    output = iter(terminal.output)
    seen = next(output)
    while b"ready" not in seen:
        seen += next(output)
    terminal.resize(132, 50)
    assert b"50 132" in b"".join(output)
    assert terminal.result().returncode == 0


def test_sandbox_that_ends_meanwhile(launch):
    sandbox = launch()
    process = sandbox.exec(["sh", "-c", "echo started; sleep infinity"])
    assert next(iter(process.stdout)) == "started\n"
    sandbox.stop(graceful_shutdown_seconds=0).result()
    with pytest.raises(cwsandbox.SandboxError):
        assert process.result(timeout=PATIENCE).returncode != 0
        raise cwsandbox.SandboxError("killed, and said so")
