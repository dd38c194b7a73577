"""What a client can find out before it launches."""

import pytest

import cwsandbox


def test_runners(server):
    (runner,) = cwsandbox.list_runners(include_resources=True)
    assert runner.runner_id == "local"
    assert runner.healthy
    assert "default" in runner.profile_names
    assert runner.max_cpu_millicores > 0 and runner.max_memory_bytes > 0
    assert cwsandbox.get_runner("local").runner_id == "local"
    assert cwsandbox.list_runners(gpu_type="none-such") == []
    assert cwsandbox.list_runners(profile_name="none-such") == []
    with pytest.raises(cwsandbox.RunnerNotFoundError):
        cwsandbox.get_runner("none-such")


def test_profiles(server):
    found = {p.profile_name: p for p in cwsandbox.list_profiles()}
    assert found["default"].runner_id == "local"
    assert cwsandbox.get_profile("default", runner_id="local").profile_name == "default"
    with pytest.raises(cwsandbox.ProfileNotFoundError):
        cwsandbox.get_profile("none-such", runner_id="local")
