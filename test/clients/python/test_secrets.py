"""Secrets that the client names by store: they are in the environment, and in nothing that the server keeps."""

import json
import urllib.request

import pytest
from cwsandbox import CWSandboxError, Secret

CANARY = "hunter2-of-the-client"


@pytest.fixture(scope="module")
def store(server):
    server.cli("secret", "store", "create", "team-secrets")
    server.cli("secret", "put", "team-secrets", "API_TOKEN", stdin=CANARY + "\n")
    server.cli("secret", "put", "team-secrets", "prod/db", "--field", "password", stdin=CANARY + "\n")
    return "team-secrets"


def test_secrets_are_in_the_environment(launch, store, server):
    secrets = [Secret(store=store, name="API_TOKEN"), Secret(store=store, name="prod/db", field="password", env_var="DB")]
    sandbox = launch("sleep", "infinity", secrets=secrets)
    assert sandbox.exec(["printenv", "API_TOKEN", "DB"]).result().stdout == f"{CANARY}\n{CANARY}\n"
    # A sandbox's own disk is a large file with nothing in it.
    kept = [p for p in server.work.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size < 64 << 20]
    assert len(kept) > 5
    assert [str(p) for p in kept if CANARY.encode() in p.read_bytes()] == []
    for path in ("/v1beta2/sandboxes/", "/berm/v1/sandboxes/"):
        request = urllib.request.Request(server.url + path + sandbox.sandbox_id, headers={"Authorization": f"Bearer {server.token}"})
        with urllib.request.urlopen(request) as answer:
            assert CANARY not in json.dumps(json.load(answer))


@pytest.mark.parametrize("secret,reason,word", [
    (Secret(store="nobodys", name="x"), "CWSANDBOX_SECRET_STORE_NOT_PROVISIONED", "nobodys"),
    (Secret(store="team-secrets", name="none"), "SECRET_NOT_FOUND", "none"),
    (Secret(store="team-secrets", name="prod/db", field="user"), "SECRET_NOT_FOUND", "user"),
])
def test_missing_ones_are_named(launch, store, secret, reason, word):
    with pytest.raises(CWSandboxError) as refused:
        launch("sleep", "infinity", secrets=[secret])
    assert refused.value.reason == reason
    assert word in str(refused.value)
