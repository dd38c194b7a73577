"""The server is killed, and comes back: what ran goes on, and nothing is said that nobody saw."""

import grpc
import pytest

import cwsandbox
from conftest import PATIENCE, connected, eventually
from cwsandbox import Sandbox, SandboxStatus


@pytest.fixture
def lives(server):
    """The server, which is there again after the test. Named after launch, it is so before what was launched is stopped."""
    yield server
    if server.process.poll() is not None:
        restart(server)


def restart(server):
    server.start()
    eventually("the client is connected again", connected)


def test_sandbox_outlives_the_server(launch, lives):
    sandbox = launch("sh", "-c", "echo before; until [ -e /tmp/go ]; do sleep 0.05; done; echo after; exit 6")
    sandbox.wait(timeout=PATIENCE)
    lives.kill()
    restart(lives)
    again = Sandbox.from_id(sandbox.sandbox_id).result()
    assert again.status == SandboxStatus.RUNNING
    again.exec(["touch", "/tmp/go"]).result()
    again.wait_until_complete(timeout=PATIENCE).result()
    assert again.returncode == 6
    assert list(again.stream_logs()) == ["before\n", "after\n"]


def test_stream_that_is_cut_is_no_success(launch, lives):
    sandbox = launch()
    sandbox.wait(timeout=PATIENCE)
    process = sandbox.exec(["sh", "-c", "echo started; sleep infinity"])
    assert next(iter(process.stdout)) == "started\n"
    lives.kill()
    # The client gives out what its library says here, and has no error of its own for it.
    with pytest.raises((cwsandbox.CWSandboxError, grpc.RpcError)):
        process.result(timeout=PATIENCE)
    restart(lives)
    again = Sandbox.from_id(sandbox.sandbox_id).result()
    eventually("commands run again", lambda: again.exec(["true"]).result().returncode == 0)


def test_wait_goes_through_a_restart(launch, lives):
    sandbox = launch("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; exit 5")
    sandbox.wait(timeout=PATIENCE)
    done = sandbox.wait_until_complete(timeout=PATIENCE)
    lives.kill()
    restart(lives)
    Sandbox.from_id(sandbox.sandbox_id).result().exec(["touch", "/tmp/go"]).result()
    done.result()
    assert sandbox.returncode == 5
