"""The client's own command line, as a program."""

import json
import os
import pathlib
import pty
import select
import subprocess
import sys

import pytest

from cwsandbox.cli import cli

PROGRAM = pathlib.Path(sys.executable).parent / "cwsandbox"


@pytest.fixture
def program(server):
    """A function that runs the program to its end."""
    def run(*args, **more):
        return subprocess.run([PROGRAM, *args], env=server.environment, capture_output=True, text=True, **more)

    return run


def test_there_are_no_other_commands():
    assert sorted(cli.commands) == ["exec", "logs", "ls", "sh"]


def test_list(program, launch, tag):
    sandbox = launch()
    sandbox.wait(timeout=60)
    assert sandbox.sandbox_id in program("ls", "--tag", tag).stdout
    (row,) = json.loads(program("ls", "--tag", tag, "--status", "running", "--profile-name", "default", "--runner-id", "local", "-o", "json").stdout)
    assert (row["sandbox_id"], row["status"], row["runner_id"]) == (sandbox.sandbox_id, "running", "local")
    assert program("ls", "--tag", tag, "--status", "failed").stdout == "No sandboxes found.\n"


def test_exec(program, sandbox):
    done = program("exec", sandbox.sandbox_id, "--cwd", "/tmp", "sh", "-c", "pwd; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("/tmp\n", "err\n", 7)
    done = program("exec", "no-such-sandbox", "true")
    assert done.returncode == 1 and done.stderr == "Error: Sandbox 'no-such-sandbox' not found\n"


def test_logs(program, launch):
    sandbox = launch("sh", "-c", "seq 5")
    sandbox.wait_until_complete(timeout=60).result()
    assert program("logs", sandbox.sandbox_id).stdout == "1\n2\n3\n4\n5\n"
    assert program("logs", sandbox.sandbox_id, "--tail", "1", "--timestamps").stdout.endswith("Z 5\n")


def test_logs_that_are_followed(server, launch):
    sandbox = launch("sh", "-c", "echo first; until [ -e /tmp/go ]; do sleep 0.05; done; echo last")
    sandbox.wait(timeout=60)
    process = subprocess.Popen([PROGRAM, "logs", sandbox.sandbox_id, "--follow"], env=server.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "first\n"
    sandbox.exec(["touch", "/tmp/go"]).result()
    rest, _ = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("last\n", 0)


class Terminal:
    """Ours of a terminal, whose other end a program has."""

    def __init__(self, fd):
        self.fd, self.seen = fd, b""

    def read_until(self, part):
        """Reads until a part was shown, or with None until the program is gone."""
        while part is None or part not in self.seen:
            assert select.select([self.fd], [], [], 60)[0], f"waited in vain for {part!r} behind {self.seen!r}"
            try:
                piece = os.read(self.fd, 4096)
            except OSError:  # Nobody has the other end any more.
                piece = b""
            if not piece:
                assert part is None, self.seen
                return
            self.seen += piece


def test_terminal(program, server, sandbox):
    assert "requires a TTY" in program("sh", sandbox.sandbox_id, stdin=subprocess.DEVNULL).stderr
    ours, theirs = pty.openpty()
    command = [PROGRAM, "sh", sandbox.sandbox_id, "--cmd", "/bin/sh -i"]
    process = subprocess.Popen(command, env={**server.environment, "COLUMNS": "111", "LINES": "33"}, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        terminal.read_until(b"# ")  # What is typed before the program has the terminal is thrown away.
        os.write(ours, b"stty size; echo $((6 * 7)); exit 9\n")
        terminal.read_until(None)
        assert process.wait(timeout=60) == 9
    finally:
        process.kill()
        os.close(ours)
    assert b"33 111" in terminal.seen and b"42" in terminal.seen
