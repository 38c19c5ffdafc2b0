# SPDX-License-Identifier: Apache-2.0
"""A sandbox whose stored objects are damaged or odd, as its user meets it."""

from __future__ import annotations

import json

import pytest

from tests.api.journals import appended, written_by
from tests.conftest import SandboxUnderTest

META = '"metadata":{{"name":"{}","namespace":"{}","uid":"u-{}","resourceVersion":"5000"{}}}'


def payload(resource: str, name: str, namespace: str, rest: str, meta: str = "") -> bytes:
    """A whole record with an object that no client could have written."""
    obj = "{" + META.format(name, namespace, name, meta) + "," + rest + "}"
    head = {"put": resource, "namespace": namespace, "name": name, "version": 5000}
    return json.dumps(head, separators=(",", ":"))[:-1].encode() + b',"object":' + obj.encode() + b"}"


@pytest.fixture
def stopped(start_sandbox) -> SandboxUnderTest:
    """A sandbox with two ConfigMaps, stopped."""
    sandbox = start_sandbox("1.30.3", name="spoilt")
    sandbox.kubectl("create", "configmap", "kept", "--from-literal=a=1")
    sandbox.kubectl("create", "configmap", "lost", "--from-literal=a=here-it-is")
    sandbox.labkit("down", "--name", "spoilt")
    return sandbox


def test_up_refuses_damaged_objects_and_recovers_them_when_told(stopped):
    journal = stopped.home / "objects" / "journal.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b"here-it-is", b"here-it-was"))

    refused = stopped.labkit("up", "--name", "spoilt")
    assert refused.returncode == 1
    assert f"The sandbox's objects in {journal} are damaged: record" in refused.stderr
    assert "labkit up --name spoilt --recover" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert json.loads(stopped.labkit("status", "--name", "spoilt", "--json").stdout)["state"] != "running"
    assert stopped.labkit("up", "--name", "spoilt").returncode == 1, "never by itself"

    up = stopped.labkit("up", "--name", "spoilt", "--recover")
    assert up.returncode == 0, up.stderr
    assert "configmaps default/lost: lost, or deleted later" in up.stdout
    assert "The damaged file is " in up.stdout
    assert stopped.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "1"
    assert stopped.kubectl("get", "configmap", "lost", check=False).returncode == 1
    again = stopped.labkit("up", "--name", "spoilt", "--recover")
    assert again.returncode == 0
    assert "lost" not in again.stdout


@pytest.mark.parametrize("damage", ["empty", "missing"])
def test_an_empty_or_missing_journal_is_no_empty_cluster(stopped, damage):
    journal = stopped.home / "objects" / "journal.jsonl"
    journal.unlink()
    if damage == "empty":
        journal.touch(mode=0o600)
    refused = stopped.labkit("up", "--name", "spoilt")
    assert refused.returncode == 1
    assert f"the file is {damage}" in refused.stderr
    up = stopped.labkit("up", "--name", "spoilt", "--recover")
    assert up.returncode == 0, up.stderr
    assert "whatever was stored is lost" in up.stdout


CORE = '"apiVersion":"v1","kind":"{}"'
ODD = [
    payload("configmaps", "deep", "default", '"data":' + '{"a":' * 20_000 + "1" + "}" * 20_000),
    payload("configmaps", "note", "default", CORE.format("ConfigMap"), ',"annotations":{"a":{"b":1}}'),
    payload("widgets.example.com", "unknown", "default", '"apiVersion":"example.com/v1","kind":"Widget"'),
    payload("pods", "bare", "default", CORE.format("Pod")),
    payload("services", "bare", "default", CORE.format("Service")),
    payload("deployments.apps", "bare", "default", '"apiVersion":"apps/v1","kind":"Deployment","spec":[]'),
    payload("endpoints", "bare", "default", '"subsets":7'),
    payload("pods", "other", "default", '"apiVersion":"v1","kind":"Secret","spec":{}'),
]
LACKING = [
    # Objects that lack what nobody can do without: another labkit may have stored such.
    payload("pods", "hollow", "default", CORE.format("Pod") + ',"spec":{"nodeName":"labkit-spoilt"}'),
    payload(
        "services", "hollow", "default", CORE.format("Service") + ',"spec":{"type":"Strange","ports":[{"name":"a"}]}'
    ),
    payload("endpoints", "hollow", "default", CORE.format("Endpoints") + ',"subsets":[{"ports":[{}]}]'),
    payload("deployments.apps", "hollow", "default", '"apiVersion":"apps/v1","kind":"Deployment","spec":{}'),
    payload("jobs.batch", "hollow", "default", '"apiVersion":"batch/v1","kind":"Job","spec":{}'),
]
STRANGE = [
    # Understood as objects, but more than their readers bargain for.
    payload(
        "pods",
        "nowhere",
        "default",
        CORE.format("Pod") + ',"spec":{"nodeName":"labkit-spoilt","containers":[{"name":"c","image":"busybox"}]},'
        '"status":{"podIP":"not an address"}',
    ),
    payload(
        "services",
        "strange",
        "default",
        CORE.format("Service") + ',"spec":{"type":"Strange","ports":[{"name":"a","port":80}]}',
    ),
    payload(
        "configmaps", "istio", "istio-system", CORE.format("ConfigMap") + ',"data":{"mesh":"a: ' + "[" * 20_000 + '"}'
    ),
]


def test_whatever_is_stored_the_rest_starts(stopped, until):
    journal = stopped.home / "objects" / "journal.jsonl"
    appended(journal, *ODD, *LACKING, *STRANGE)
    written_by(journal, "0.0.1")
    up = stopped.labkit("up", "--name", "spoilt")
    assert up.returncode == 0, up.stderr
    told = f"{len(ODD + LACKING)} objects of sandbox 'spoilt' could not be understood and were left out"
    assert told in up.stdout
    status = stopped.labkit("status", "--name", "spoilt")
    assert told in status.stdout
    listed = json.loads(stopped.kubectl("get", "events", "-o", "json").stdout)["items"]
    aside = [one for one in listed if one["reason"] == "SetAside"]
    assert sorted(one["involvedObject"]["name"] for one in aside) == sorted(
        json.loads(one.partition(b',"object":')[0] + b"}")["name"] for one in ODD + LACKING
    )
    assert {one["type"] for one in aside} == {"Warning"}
    # All is at work beside the strange ones: a Deployment gets its pod, which runs behind a Service.
    assert stopped.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "1"
    stopped.kubectl("create", "deployment", "web", "--image=docker.io/curlimages/curl:8.16.0", "--", "sleep", "1000")
    stopped.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=120s")
    stopped.kubectl("expose", "deployment", "web", "--port=80")
    addresses = ("get", "endpoints", "web", "-o", "jsonpath={.subsets[0].addresses[0].ip}")
    until(lambda: stopped.kubectl(*addresses).stdout.startswith("127."), 20, "the Service's endpoint")


BOMBS = {
    "brackets": "a: " + "[" * 20_000 + "]" * 20_000,
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)),
}
"""Settings of the mesh that no reader without bounds survives."""


@pytest.mark.parametrize("bomb", BOMBS)
def test_settings_that_no_reader_survives_keep_nothing_from_starting(bomb, start_sandbox, until):
    sandbox = start_sandbox("1.30.3", name="bombed")
    sandbox.kubectl("create", "namespace", "istio-system")
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": BOMBS[bomb]},
    }
    sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(settings))
    events = ("get", "events", "-n", "istio-system", "-o", "jsonpath={.items[*].type}: {.items[*].message}")
    until(lambda: "Warning" in sandbox.kubectl(*events).stdout, 20, "an event about the settings")
    sandbox.labkit("down", "--name", "bombed")
    up = sandbox.labkit("up", "--name", "bombed")
    assert up.returncode == 0, up.stderr
    mesh = sandbox.kubectl("get", "configmap", "istio", "-n", "istio-system", "-o", "jsonpath={.data.mesh}").stdout
    assert mesh == BOMBS[bomb]
