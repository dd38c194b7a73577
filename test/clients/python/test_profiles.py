"""Profiles decide what a launch becomes, and an edit counts for the next launch at once."""

import json

import pytest

import cwsandbox
from conftest import PATIENCE

SPEC = """
display_name: NAME
spec:
  container_image: python:3.11
  resource_defaults: {cpu_limit: 500m, memory_limit: 256Mi}
  guardrails: {resources: {max_cpu: "1"}}
"""


@pytest.fixture
def profile(server, tag):
    made = json.loads(server.cli("profile", "create", "-f", "-", "-o", "json", stdin=SPEC.replace("NAME", tag)))
    server.cli("runner", "bind", "local", tag)
    yield made
    server.cli("runner", "unbind", "local", tag)
    server.cli("profile", "delete", made["id"])


def test_by_name_and_by_id(launch, profile, tag):
    for how in ({"profile_names": [tag]}, {"profile_ids": [profile["id"]]}, {"profile_ids": [tag]}):
        sandbox = launch(**how)
        sandbox.wait(timeout=PATIENCE)
        assert sandbox.profile_id == tag
        sandbox.stop(graceful_shutdown_seconds=0).result()


def test_edit_counts_at_once(server, launch, profile, tag):
    with pytest.raises(cwsandbox.SandboxError):
        launch(profile_names=[tag], resources={"cpu": "1500m", "memory": "64Mi"})
    server.cli("profile", "edit", profile["id"], "--set", "guardrails.resources.max_cpu=2", "--yes")
    with pytest.raises(cwsandbox.SandboxError):
        launch(profile_names=[tag], resources={"cpu": "3", "memory": "64Mi"})
    launch(profile_names=[tag], resources={"cpu": "1500m", "memory": "64Mi"}).wait(timeout=PATIENCE)


def test_refusal_says_what_would_pass(launch, profile, tag):
    with pytest.raises(cwsandbox.SandboxError) as e:
        launch(profile_names=[tag], resources={"cpu": "4", "memory": "64Mi"})
    assert "max_cpu" in str(e.value) or "CPU" in str(e.value)
    assert e.value.reason


def test_unknown_profile(server, launch):
    with pytest.raises(cwsandbox.CWSandboxError, match="none-such"):
        launch(profile_names=["none-such"])
