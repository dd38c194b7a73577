"""What the client stops when its program ends, by itself or by a signal: what its sessions hold."""

import signal
import subprocess
import sys

import pytest

from cwsandbox import Sandbox

PROGRAM = """
import sys
from cwsandbox import Sandbox, SandboxDefaults, Session

session = Session(SandboxDefaults(tags=(sys.argv[1],)))
for _ in range(2):
    session.sandbox().wait(timeout=60)
Sandbox.run(tags=[sys.argv[1], "nobodys"])
print("launched", flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how, code", [(None, 0), (signal.SIGTERM, 128 + 15), (signal.SIGINT, -signal.SIGINT)], ids=["end", "SIGTERM", "SIGINT"])
def test_end(server, tag, how, code):
    command = [sys.executable, "-c", PROGRAM, tag, "wait" if how else "go"]
    process = subprocess.Popen(command, env=server.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"launched\n"
        if how:
            process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        (left,) = Sandbox.list(tags=[tag]).result()
        assert [s.sandbox_id for s in Sandbox.list(tags=[tag, "nobodys"]).result()] == [left.sandbox_id]
    finally:
        process.kill()
        process.wait()
        for sandbox in Sandbox.list(tags=[tag]).result():
            sandbox.stop(missing_ok=True, graceful_shutdown_seconds=0).result()
