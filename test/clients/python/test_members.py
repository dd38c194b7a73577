"""What the client says of its objects, and its smaller members."""

import asyncio
import concurrent.futures

import pytest

import cwsandbox
from conftest import PATIENCE
from cwsandbox import Sandbox, SandboxDefaults, SandboxStatus, Session


def test_what_a_sandbox_says_of_itself(sandbox):
    assert sandbox.get_status() == SandboxStatus.RUNNING
    assert sandbox.status_updated_at is not None
    assert sandbox.runner_group_id in (None, "")
    assert sandbox.applied_egress_mode and not sandbox.applied_ingress_mode
    assert not sandbox.exposed_ports and not sandbox.service_address and not sandbox.file_system_snapshot_id
    assert not sandbox.resource_gpu


def test_resources(launch):
    sandbox = launch(resources={"cpu": "250m", "memory": "128Mi"})
    sandbox.wait(timeout=PATIENCE)
    assert sandbox.resource_limits and sandbox.resource_requests


def test_commands_are_counted(launch):
    sandbox = launch()
    before = dict(sandbox.exec_stats)
    process = sandbox.exec(["true"])
    assert process.command == ["true"]
    assert process.result().returncode == 0
    assert dict(sandbox.exec_stats) != before


def test_input_by_the_line(sandbox):
    process = sandbox.exec(["cat"], stdin=True)
    process.stdin.writeline("a line").result()
    process.stdin.close().result()
    assert process.stdin.closed
    assert process.result().stdout == "a line\n"


def test_a_terminal_knows_its_command(sandbox):
    terminal = sandbox.shell(["true"])
    assert list(terminal.command) == ["true"]
    assert terminal.wait(timeout=PATIENCE) == terminal.returncode == 0


def test_results_of_several(sandbox):
    several = cwsandbox.results([sandbox.exec(["echo", str(i)]) for i in range(3)])
    assert [r.stdout.strip() for r in several] == ["0", "1", "2"]


def test_a_session_adopts(launch):
    sandbox = launch()
    with cwsandbox.Sandbox.session() as session:
        session.adopt(sandbox)
        assert session.get_metrics() is not None
    assert sandbox.get_status() != SandboxStatus.RUNNING


def test_session_counts_without_a_service(server):
    with Session(report_to=["wandb"]) as session:
        box = session.sandbox()
        box.exec(["true"]).result()
        box.exec(["false"]).result()
        counted = session.get_metrics()
        assert (counted["cwsandbox/sandboxes_created"], counted["cwsandbox/exec_completed_ok"], counted["cwsandbox/exec_completed_nonzero"]) == (1, 1, 1)
        assert session.log_metrics(step=1) is False  # There is no run of wandb to log to.
    assert Session(report_to=[]).get_metrics() == {}


def test_session_that_is_closed_by_hand(server):
    session = Session({"tags": ["by-hand"]})
    box = session.sandbox().wait(timeout=PATIENCE)
    session.close().result()
    assert box.status == SandboxStatus.COMPLETED
    with pytest.raises(cwsandbox.SandboxError, match="closed"):
        session.adopt(box)


def test_a_process_is_waited_for_polled_and_cancelled(sandbox):
    process = sandbox.exec(["sh", "-c", "read line; exit 3"], stdin=True)
    assert process.poll() is None and process.returncode is None
    with pytest.raises(concurrent.futures.TimeoutError):
        process.wait(timeout=0.01)
    process.stdin.writeline("on").result()
    assert process.wait(timeout=PATIENCE) == process.poll() == process.returncode == 3
    with pytest.raises(cwsandbox.SandboxExecutionError, match="stream has failed"):
        process.stdin.write(b"too late")


def test_terminal_in_asynchronous_code(sandbox):
    async def ask():
        terminal = sandbox.shell(["sh"], width=90, height=20)
        await terminal.stdin.write(b"stty size; exit 6\n")
        result = await terminal
        # All is there by now: the client takes output from a queue of another loop, which does not wake this one.
        return b"".join([piece async for piece in terminal.output]), result

    output, result = asyncio.run(ask())
    assert b"20 90" in output
    assert result.returncode == 6 and list(result.command) == ["sh"]


def test_waiting_for_several_kinds(launch):
    sandbox = launch()
    done, pending = cwsandbox.wait([sandbox, sandbox.write_file("/tmp/x", b"x"), sandbox.exec(["sleep", "1000"])], num_returns=2, timeout=PATIENCE)
    assert len(done) == 2 and len(pending) == 1
    assert cwsandbox.wait([]) == ([], [])
    assert cwsandbox.wait(pending, timeout=0.01) == ([], pending)
    pending[0].cancel()


def test_a_way_to_say_who_one_is_of_ones_own(server, monkeypatch):
    monkeypatch.delenv("CWSANDBOX_API_KEY")
    with pytest.raises(cwsandbox.CWSandboxAuthenticationError):
        Sandbox.list().result()
    before = cwsandbox._auth._ACTIVE_AUTH_MODE
    try:
        cwsandbox.set_auth_mode("of a test", lambda: cwsandbox.AuthHeaders({"Authorization": f"Bearer {server.token}"}, "a test"))
        assert isinstance(Sandbox.list().result(), list)
        cwsandbox.set_auth_mode("of a test", lambda: cwsandbox.AuthHeaders({}, "none"))
        assert not cwsandbox.AuthHeaders({}, "none")
        with pytest.raises(cwsandbox.CWSandboxAuthenticationError):
            Sandbox.list().result()
    finally:
        cwsandbox.set_auth_mode(before.name, before.get_auth)


def test_defaults():
    defaults = SandboxDefaults.from_dict({"tags": ["a"], "environment_variables": {"A": "1"}, "network": {"egress_mode": "x"}, "unknown": 1})
    assert defaults.network == cwsandbox.NetworkOptions(egress_mode="x")
    assert defaults.merge_tags(["b"]) == ["a", "b"]
    assert defaults.merge_environment_variables({"A": "2", "B": "3"}) == {"A": "2", "B": "3"}
    assert defaults.merge_annotations({"c": "d"}) == {"c": "d"}
    assert defaults.with_overrides(temp_dir="/var/tmp").temp_dir == "/var/tmp"


def test_every_status_has_a_number():
    for status in SandboxStatus:
        assert SandboxStatus.from_proto(status.to_proto()) == status


def test_stdin_that_is_closed(sandbox):
    process = sandbox.exec(["cat"], stdin=True)
    process.stdin.close().result()
    process.stdin.close().result()
    with pytest.raises(cwsandbox.SandboxExecutionError, match="Cannot write to stdin"):
        process.stdin.write(b"x")
    assert process.result(timeout=PATIENCE).stdout == ""
