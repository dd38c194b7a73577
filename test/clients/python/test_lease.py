"""Leases, for a client that knows none: `berm lease hold` puts one behind the API key."""

import json
import os
import subprocess
import sys

from conftest import eventually

# The program that is held: it launches as any does, and says what it launched.
PROGRAM = """
import cwsandbox
sandbox = cwsandbox.Sandbox.run()
sandbox.wait(timeout=60)
print(sandbox.sandbox_id, flush=True)
"""


def test_what_a_held_program_leaves_is_stopped(server):
    env = {**os.environ, "BERM_URL": server.url, "BERM_TOKEN": server.token}
    done = subprocess.run(
        [server.berm, "lease", "hold", "--purpose", "a test", "--", sys.executable, "-c", PROGRAM + "raise SystemExit(7)"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    sandbox_id = done.stdout.split()[-1]

    def reason():
        found = json.loads(server.cli("explain", sandbox_id, "-o", "json"))
        return found if any(e["name"] == "ended" for e in found["timeline"]) else None

    eventually("it ends", reason)
    assert "LEASE_RELEASED" in server.cli("get", sandbox_id, "-o", "json")
