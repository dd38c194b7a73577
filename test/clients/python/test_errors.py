"""The client's errors: each class that a server can cause is caused here, and what it carries besides its text is looked at. Those about files
are in test_file_errors.py; test_surface.py says of the others why nothing causes them."""

import json
import socket
import subprocess

import pytest

import cwsandbox
from conftest import PATIENCE, eventually
from cwsandbox import Sandbox, Session

NOBODY = "00000000-0000-0000-0000-000000000000"


def carries(error, reason, **metadata):
    """Checks what a server's error has: its reason, what it is about, and the request that the server's log knows it by."""
    assert error.reason == reason, error
    assert error.metadata["request_id"]
    assert {k: error.metadata.get(k) for k in metadata} == metadata


def test_wrong_key(server, monkeypatch):
    monkeypatch.setenv("CWSANDBOX_API_KEY", "wrong")
    for ask in (lambda: Sandbox.run(), lambda: Sandbox.list().result(), cwsandbox.list_runners):
        with pytest.raises(cwsandbox.CWSandboxAuthenticationError) as e:
            ask()
        carries(e.value, "TOKEN_INVALID")
        assert e.value.retry_delay is None


def test_key_of_a_user_is_enough(server, monkeypatch):
    monkeypatch.setenv("CWSANDBOX_API_KEY", json.loads(server.cli("token", "create", "--role", "user", "-o", "json"))["token"])
    with Sandbox.run() as sandbox:
        assert sandbox.exec(["true"]).result().returncode == 0
        assert cwsandbox.list_runners() and cwsandbox.list_profiles()


@pytest.mark.parametrize("ask", [
    lambda: Sandbox.from_id(NOBODY).result(),
    lambda: Sandbox.delete(NOBODY).result(),
    lambda: Session().from_id(NOBODY).result(),
])
def test_no_such_sandbox(server, ask):
    with pytest.raises(cwsandbox.SandboxNotFoundError) as e:
        ask()
    assert e.value.sandbox_id == NOBODY
    carries(e.value, "CWSANDBOX_SANDBOX_NOT_FOUND", sandbox_id=NOBODY)


def test_no_such_runner(server):
    with pytest.raises(cwsandbox.RunnerNotFoundError) as e:
        cwsandbox.get_runner("none-such")
    assert e.value.runner_id == "none-such"
    carries(e.value, "CWSANDBOX_RUNNER_NOT_FOUND")


def test_no_such_profile(server):
    with pytest.raises(cwsandbox.ProfileNotFoundError) as e:
        cwsandbox.get_profile("none-such", runner_id="local")
    assert (e.value.profile_name, e.value.runner_id) == ("none-such", "local")
    carries(e.value, "CWSANDBOX_PROFILE_NOT_FOUND")


def test_what_ended_meanwhile(launch):
    sandbox = launch()
    sandbox.wait(timeout=PATIENCE)
    believes = Sandbox.from_id(sandbox.sandbox_id).result()
    sandbox.stop(graceful_shutdown_seconds=0).result()
    with pytest.raises(cwsandbox.SandboxError) as e:
        believes.read_file("/etc/passwd").result()
    carries(e.value, "CWSANDBOX_SANDBOX_NOT_RUNNING", sandbox_id=sandbox.sandbox_id, status="COMPLETED")
    with pytest.raises(cwsandbox.SandboxExecutionError) as e:
        believes.exec(["true"]).result()
    assert e.value.reason == "EXEC_FAILED"
    # The client's own, of one that it saw end.
    with pytest.raises(cwsandbox.SandboxNotRunningError, match=sandbox.sandbox_id):
        sandbox.exec(["true"]).result()
    with pytest.raises(cwsandbox.SandboxTerminatedError, match=sandbox.sandbox_id):
        sandbox.wait_until_complete(timeout=PATIENCE).result()
    with pytest.raises(cwsandbox.SnapshotOnStopConflictError):
        sandbox.stop(snapshot_on_stop=True).result()


def test_no_snapshot_at_the_end(launch):
    sandbox = launch()
    sandbox.wait(timeout=PATIENCE)
    with pytest.raises(cwsandbox.SandboxError) as e:
        sandbox.stop(snapshot_on_stop=True).result()
    carries(e.value, "CWSANDBOX_NOT_IMPLEMENTED")
    assert sandbox.get_status() == cwsandbox.SandboxStatus.RUNNING  # What would be lost is not stopped.


def test_commands(sandbox):
    with pytest.raises(cwsandbox.SandboxExecutionError) as e:
        sandbox.exec(["sh", "-c", "echo out; echo err >&2; exit 3"], check=True).result()
    result = e.value.exec_result
    assert (result.stdout, result.stderr, result.returncode, result.command[0]) == ("out\n", "err\n", 3, "sh")
    with pytest.raises(cwsandbox.SandboxExecutionError, match="none-such") as e:
        sandbox.exec(["none-such"]).result()
    assert (e.value.reason, e.value.exec_result) == ("EXEC_FAILED", None)


def test_server_that_does_not_answer(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # It takes connections, and says nothing.
        with pytest.raises(cwsandbox.SandboxRequestTimeoutError):
            Sandbox.from_id(NOBODY, base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.2).result()


def test_functions(server):
    with Session() as session:
        with pytest.raises(cwsandbox.AsyncFunctionError, match="slow"):
            @session.function()
            async def slow():
                return 1

        @session.function()
        def broken(values):
            return values["none-such"]

        with pytest.raises(cwsandbox.SandboxExecutionError) as e:
            broken.remote({}).result()
    assert (e.value.exception_type, e.value.exception_message) == ("KeyError", "'none-such'")
    assert e.value.exec_result.returncode == 1


def test_image_that_is_not_there(launch):
    sandbox = launch("true", container_image="localhost/none-such:1")
    for wait in (lambda: sandbox.wait(timeout=PATIENCE), lambda: sandbox.wait_until_complete(timeout=PATIENCE).result()):
        with pytest.raises(cwsandbox.SandboxFailedError, match=sandbox.sandbox_id):
            wait()


def test_no_room(server, launch):
    (runner,) = cwsandbox.list_runners(include_resources=True)
    free = runner.resources.available_cpu_millicores
    launch(resources={"cpu": f"{free}m", "memory": "32Mi"})
    with pytest.raises(cwsandbox.SandboxResourceExhaustedError) as e:
        launch(resources={"cpu": f"{free}m", "memory": "32Mi"})
    carries(e.value, "CWSANDBOX_NO_SUITABLE_RUNNER")
    assert e.value.retry_delay.total_seconds() > 0


def test_over_a_limit(launch):
    with pytest.raises(cwsandbox.SandboxError) as e:
        launch(resources={"cpu": "1000", "memory": "32Mi"})
    carries(e.value, "CWSANDBOX_NO_SUITABLE_RUNNER")
    assert e.value.retry_delay is None  # It will not be otherwise later.
    assert not isinstance(e.value, cwsandbox.SandboxResourceExhaustedError)


def test_request_that_is_malformed(launch):
    with pytest.raises(cwsandbox.SandboxError) as e:
        launch(environment_variables={"NOT A NAME": "x"})
    carries(e.value, "CWSANDBOX_INVALID_REQUEST")


@pytest.fixture
def edge(server, tmp_path):
    """A runner in a process of its own: a function that starts it, which returns the process."""
    server.cli("runner", "create", "edge", "--zone", "local", "--cluster", "edge", "--profile", "default")
    token = json.loads(server.cli("runner", "join", "edge", "-o", "json"))["token"]
    running = []

    def start():
        log = open(tmp_path / "runner.log", "ab")
        alias = ["--image-alias", "python:3.11=localhost/python:3.11"]
        joining = [] if running else ["--token", token]
        running.append(subprocess.Popen([server.berm, "runner", "--gateway", server.url, "--data", tmp_path / "edge", *alias, *joining], stdout=log, stderr=log))
        eventually("the runner is there", lambda: any(r.runner_id == "edge" and r.healthy for r in cwsandbox.list_runners()))
        return running[-1]

    yield start
    for process in running:
        process.terminate()
        process.wait()
    server.cli("runner", "delete", "edge", "--force")


def test_runner_out_of_contact(server, launch, edge):
    process = edge()
    server.cli("image", "import", "--runner", "edge", server.image, "localhost/python:3.11")
    sandbox = launch(runner_ids=["edge"])
    sandbox.wait(timeout=PATIENCE)
    process.kill()
    process.wait()
    eventually("it is missed", lambda: not any(r.runner_id == "edge" and r.healthy for r in cwsandbox.list_runners()))
    with pytest.raises(cwsandbox.SandboxUnavailableError) as e:
        sandbox.read_file("/etc/passwd").result()
    carries(e.value, "CWSANDBOX_RUNNER_UNAVAILABLE", sandbox_id=sandbox.sandbox_id, runner_id="edge")
    assert e.value.retry_delay.total_seconds() > 0
    with pytest.raises(cwsandbox.SandboxExecutionError) as e:
        sandbox.exec(["true"]).result()
    assert e.value.reason == "RUNNER_UNAVAILABLE"
    edge()
    assert sandbox.read_file("/etc/hostname").result() is not None
    sandbox.stop(graceful_shutdown_seconds=0).result()


def test_server_out_of_contact(server, monkeypatch):
    monkeypatch.setenv("CWSANDBOX_BASE_URL", "http://127.0.0.1:9")  # Nothing listens there.
    for ask in (lambda: Sandbox.from_id(NOBODY).result(), Sandbox.run):
        with pytest.raises(cwsandbox.SandboxUnavailableError) as e:
            ask()
        assert e.value.reason is None and e.value.metadata == {}  # Nobody gave any.
    with pytest.raises(cwsandbox.DiscoveryError, match="unavailable"):
        cwsandbox.list_profiles()
