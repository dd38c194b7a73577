"""Sandboxes from launch to end: states, exit codes, lists, and what is said of those that cannot be."""

import datetime

import pytest

import cwsandbox
from conftest import PATIENCE
from cwsandbox import Sandbox, SandboxStatus


def test_launch_and_stop(launch):
    sandbox = launch()
    assert sandbox.sandbox_id
    sandbox.wait(timeout=PATIENCE)
    assert sandbox.status == SandboxStatus.RUNNING
    assert sandbox.runner_id == "local"
    assert sandbox.profile_id
    assert sandbox.started_at.replace(tzinfo=datetime.UTC) <= datetime.datetime.now(datetime.UTC)
    sandbox.stop().result()
    assert sandbox.status == SandboxStatus.COMPLETED
    assert sandbox.returncode == 0  # The default main process takes SIGTERM for a wish.


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code_is_the_main_process_own(launch, code):
    sandbox = launch("sh", "-c", f"exit {code}")
    sandbox.wait_until_complete(timeout=PATIENCE).result()
    assert sandbox.status == SandboxStatus.COMPLETED
    assert sandbox.returncode == code


def test_main_process_that_kills_itself(launch):
    sandbox = launch("python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    sandbox.wait_until_complete(timeout=PATIENCE, raise_on_termination=False).result()
    assert sandbox.returncode == 128 + 9


def test_image_that_is_not_there(launch):
    sandbox = launch("true", container_image="localhost/none-such:1")
    with pytest.raises(cwsandbox.SandboxFailedError):
        sandbox.wait(timeout=PATIENCE)
    assert sandbox.returncode is None  # Nothing ran, so nothing is said to have ended.


def test_from_id_of_what_ended(launch):
    sandbox = launch("sh", "-c", "exit 3")
    sandbox.wait_until_complete(timeout=PATIENCE).result()
    again = Sandbox.from_id(sandbox.sandbox_id).result()
    assert again.status == SandboxStatus.COMPLETED
    with pytest.raises(cwsandbox.SandboxNotRunningError):
        again.exec(["true"]).result()


def test_lists(launch, tag):
    one, two = launch(), launch("true")
    two.wait_until_complete(timeout=PATIENCE).result()
    one.wait(timeout=PATIENCE)

    def ids(**filters):
        return {s.sandbox_id for s in Sandbox.list(tags=[tag], **filters).result()}

    assert ids() == {one.sandbox_id}
    assert ids(include_stopped=True) == {one.sandbox_id, two.sandbox_id}
    assert ids(status="completed") == {two.sandbox_id}
    assert ids(status="running", runner_ids=["local"], profile_names=["default"]) == {one.sandbox_id}
    assert ids(runner_ids=["none-such"]) == set()


def test_stop_and_delete_of_what_is_not_there(server):
    nobody = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(cwsandbox.SandboxNotFoundError):
        Sandbox.delete(nobody).result()
    assert Sandbox.delete(nobody, missing_ok=True).result() is None
    with pytest.raises(cwsandbox.SandboxNotFoundError):
        Sandbox.from_id(nobody).result()


def test_stop_twice(launch):
    sandbox = launch()
    sandbox.wait(timeout=PATIENCE)
    for _ in range(2):
        sandbox.stop(graceful_shutdown_seconds=0).result()
    Sandbox.delete(sandbox.sandbox_id).result()


def test_environment_and_mounted_files(launch):
    sandbox = launch(environment_variables={"GREETING": "hi"}, mounted_files=[{"mount_path": "/etc/motto", "file_content": b"be brief"}])
    assert sandbox.exec(["sh", "-c", "echo $GREETING; cat /etc/motto"]).result().stdout == "hi\nbe brief"


def test_lifetime(launch):
    sandbox = launch("sleep", "infinity", max_lifetime_seconds=1)
    sandbox.wait_until_complete(timeout=PATIENCE, raise_on_termination=False).result()
    assert sandbox.status != SandboxStatus.RUNNING


def test_session_stops_what_it_launched(server, tag):
    with cwsandbox.Session(cwsandbox.SandboxDefaults(tags=(tag,))) as session:
        for _ in range(3):
            session.sandbox().start().result()
        assert len(Sandbox.list(tags=[tag]).result()) == session.sandbox_count == 3
        with pytest.raises(cwsandbox.SandboxNotFoundError):
            session.from_id("00000000-0000-0000-0000-000000000000").result()
    assert Sandbox.list(tags=[tag]).result() == []


def test_hundred_at_once(server, tag):
    with cwsandbox.Session(cwsandbox.SandboxDefaults(tags=(tag,), resources={"cpu": "10m", "memory": "32Mi"})) as session:
        all = [session.sandbox(command="sh", args=["-c", f"exit {i}"]) for i in range(100)]
        for started in [sandbox.start() for sandbox in all]:
            started.result(timeout=PATIENCE)
        for ended in [sandbox.wait_until_complete(timeout=2 * PATIENCE) for sandbox in all]:
            ended.result()
        for i, sandbox in enumerate(all):
            assert sandbox.returncode == i


def test_wrong_key(server, monkeypatch):
    monkeypatch.setenv("CWSANDBOX_API_KEY", "wrong")
    with pytest.raises(cwsandbox.CWSandboxAuthenticationError):
        Sandbox.run()


@pytest.mark.parametrize("ask", [
    lambda sandbox: sandbox.snapshot().result(),
    lambda _: Sandbox.list_snapshots().result(),
    lambda _: Sandbox.get_snapshot("none-such").result(),
    lambda _: Sandbox.delete_snapshot("none-such").result(),
    lambda _: Sandbox.get_snapshot_bucket_config().result(),
    lambda _: Sandbox.set_snapshot_bucket_config(bucket_name="b", region="r").result(),
    lambda _: Sandbox.run(file_system_snapshot=cwsandbox.FileSystemSnapshotOptions(mount_path="/work")),
    lambda _: Sandbox.run(s3_mount={"bucket": "b", "mount_path": "/b"}),
])
def test_what_is_not_there_says_so(sandbox, ask):
    with pytest.raises(cwsandbox.SandboxError, match="not implemented") as e:
        ask(sandbox)
    assert e.value.reason == "CWSANDBOX_NOT_IMPLEMENTED"
    assert e.value.metadata["request_id"]
