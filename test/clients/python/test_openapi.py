"""The description of the REST interface: valid OpenAPI, and what the server answers is what it says."""

import json
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator
import pytest


@pytest.fixture(scope="module")
def document(server):
    with urllib.request.urlopen(server.url + "/openapi.json") as r:
        return json.load(r)


def call(server, method, path, body=None):
    request = urllib.request.Request(server.url + path, method=method, headers={"Authorization": "Bearer " + server.token})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data) as r:
            return json.load(r)
    except urllib.error.HTTPError as e:
        return json.load(e)


def strict(schema):
    """A schema in which objects have no keys but those that it names: an answer with a field that is not described is a fault."""
    if isinstance(schema, list):
        return [strict(v) for v in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: strict(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        out["additionalProperties"] = False
    return out


def test_the_description_is_valid(document):
    openapi_spec_validator.validate(document)


def test_answers_are_as_described(server, document, launch):
    sandbox = launch("sleep", "1000")
    sandbox.wait(timeout=60)
    schemas = strict(document["components"]["schemas"])

    def check(name, method, path, body=None):
        answer = call(server, method, path, body)
        jsonschema.Draft202012Validator({"$ref": "#/components/schemas/" + name, "components": {"schemas": schemas}}).validate(answer)
        return answer

    v1, own = "coreweave.sandbox.v1beta2.", "berm.v1."
    profiles = check(v1 + "ListProfileTemplatesResponse", "GET", "/v1beta2/sandbox/profile-templates")
    check(v1 + "ProfileTemplate", "GET", "/v1beta2/sandbox/profile-templates/" + profiles["profileTemplates"][0]["id"])
    full = {"displayName": "described", "labels": {"a": "b"}, "spec": {"containerImage": "python:3.11", "nodeSelector": {"pool": "a"}, "tags": ["x"],
            "resourceDefaults": {"cpuLimit": "1", "memoryLimit": "1Gi"}, "guardrails": {"resources": {"maxCpu": "2"}},
            "network": {"egress": {"default": "off", "modes": {"off": {"type": "none"}}}}, "pod": {"spec": {"priorityClassName": "low"}}}}
    check(v1 + "ProfileTemplate", "POST", "/v1beta2/sandbox/profile-templates", {"profileTemplate": full})
    runners = check(v1 + "ListRunnersResponse", "GET", "/v1beta2/sandbox/managed-runners")
    check(v1 + "Runner", "GET", "/v1beta2/sandbox/managed-runners/" + runners["runners"][0]["identity"]["runnerId"])
    check(v1 + "ListSandboxesResponse", "GET", "/v1beta2/sandboxes")
    check(v1 + "GetSandboxResponse", "GET", "/v1beta2/sandboxes/" + sandbox.sandbox_id)
    check(v1 + "ListAvailableRunnersResponse", "GET", "/v1beta2/runners?view=RUNNER_VIEW_FULL")
    check(v1 + "ListProfilesResponse", "GET", "/v1beta2/profiles")
    check(own + "ListZonesResponse", "GET", "/berm/v1/zones")
    check(own + "ListTokensResponse", "GET", "/berm/v1/tokens")
    check(own + "LintResponse", "GET", "/berm/v1/lint")
    refused = check("google.rpc.Status", "GET", "/v1beta2/sandboxes/nobody")
    assert refused["details"][0]["reason"] == "CWSANDBOX_SANDBOX_NOT_FOUND"
