# SPDX-License-Identifier: Apache-2.0
"""A stopped sandbox's block is taken: it moves to another with all its objects, and says so."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from meshbox import blocks
from meshbox.addresses import AddressPlan
from meshbox.api.moving import moved
from meshbox.api.objects import ObjectStore
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: docker.io/mccutchen/go-httpbin:2.15.0
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /status/200, port: 8080}}
"""


def test_words_of_an_object_move() -> None:
    secret = base64.b64encode(b"server=127.20.16.9;port=80").decode()
    obj = {
        "metadata": {"name": "x", "managedFields": [{"fieldsV1": {'k:{"ip":"127.20.64.3"}': {}}}]},
        "data": {"a": secret, "b": base64.b64encode(b"\xff\xfe").decode()},
        "spec": {
            "clusterIP": "127.20.16.1",
            "cidrs": ["127.20.64.0/18", "127.20.0.0/16"],
            "text": "http://127.20.0.1:31380/x, or 127.20.0.1.",
            "others": ["127.21.16.1", "127.200.16.1", "1127.20.16.1", "127.20.16.1.5", "v127.20.1", "127.20.16"],
        },
    }
    kept = json.loads(json.dumps(obj))
    found = moved("secrets", obj, {20}, 77)
    assert obj == kept
    assert found["metadata"]["managedFields"] == [{"fieldsV1": {'k:{"ip":"127.77.64.3"}': {}}}]
    assert base64.b64decode(found["data"]["a"]) == b"server=127.77.16.9;port=80"
    assert found["data"]["b"] == obj["data"]["b"]
    assert found["spec"]["clusterIP"] == "127.77.16.1"
    assert found["spec"]["cidrs"] == ["127.77.64.0/18", "127.77.0.0/16"]
    assert found["spec"]["text"] == "http://127.77.0.1:31380/x, or 127.77.0.1."
    assert found["spec"]["others"] == obj["spec"]["others"]
    assert moved("events", obj, {20}, 77) is obj
    assert moved("services", {"a": "127.21.0.1"}, {20}, 77) == {"a": "127.21.0.1"}


def test_objects_move_once_and_keep_their_versions(tmp_path: Path) -> None:
    def opened(number: int) -> ObjectStore:
        return ObjectStore(SandboxSettings("test", tmp_path, "1.30.3", AddressPlan(number), TOKEN))

    first = opened(20)
    ports = {"ports": [{"port": 80, "nodePort": 31380}], "type": "NodePort"}
    before = first.create("services", {"metadata": {"name": "web"}, "spec": ports}, "default")
    first.create("configmaps", {"metadata": {"name": "where"}, "data": {"url": "http://127.20.0.1:31380"}}, "default")
    first.close()
    assert first.moved == ""

    second = opened(77)
    assert second.moved.startswith("moved from 127.20.0.0/16 to 127.77.0.0/16: ")
    service = second.get("services", "web", "default")
    assert service["spec"]["clusterIP"] == before["spec"]["clusterIP"].replace("127.20.", "127.77.")
    assert service["spec"]["ports"][0]["nodePort"] == 31380
    assert service["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert second.get("services", "kubernetes", "default")["spec"]["clusterIP"] == "127.77.16.1"
    assert second.get("configmaps", "where", "default")["data"]["url"] == "http://127.77.0.1:31380"
    second.close()

    third = opened(77)
    assert third.moved == ""
    assert third.get("services", "web", "default") == service
    third.close()


def test_an_address_of_the_machine_itself_is_no_block(tmp_path: Path) -> None:
    """Whoever may write a pod's status may write 127.0.0.1 there; that must go on meaning this machine elsewhere."""
    settings = SandboxSettings("test", tmp_path, "1.30.3", AddressPlan(20), TOKEN)
    first = ObjectStore(settings)
    spec = {"containers": [{"name": "c", "image": "busybox:1.28"}]}
    first.create("serviceaccounts", {"metadata": {"name": "default"}}, "default")
    pod = first.create("pods", {"metadata": {"name": "odd"}, "spec": spec}, "default")
    first.update("pods", {**pod, "status": {"podIP": "127.0.0.1"}}, subresource="status")
    first.create("configmaps", {"metadata": {"name": "where"}, "data": {"url": "http://127.0.0.1:80"}}, "default")
    first.close()
    second = ObjectStore(settings)
    assert second.moved == ""
    assert second.get("configmaps", "where", "default")["data"]["url"] == "http://127.0.0.1:80"
    second.close()


@pytest.mark.parametrize("release", ["1.30.3", "1.2.2"])
def test_a_sandbox_whose_block_is_taken_moves(start_sandbox, until, release: str) -> None:
    sandbox = start_sandbox(release, "--loadbalancer", name="nomad")
    sandbox.kubectl("apply", "-f", "-", stdin=WEB)
    sandbox.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    old = sandbox.node
    sandbox.kubectl("create", "configmap", "note", f"--from-literal=url=http://{old}:30001/")
    pods = sandbox.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.uid}").stdout
    ports = sandbox.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}").stdout
    sandbox.labkit("down", "--name", "nomad")

    number = int(old.split(".")[1])
    held = blocks.hold(number)
    assert held is not None
    with held:
        up = sandbox.labkit("up", "--name", "nomad", "--loadbalancer")
        assert up.returncode == 0, up.stderr
        status = json.loads(sandbox.labkit("status", "--name", "nomad", "--json").stdout)
        new = status["node"]
        assert new != old
        where = f"moved from 127.{number}.0.0/16 to {new.removesuffix('.0.1')}.0.0/16: "
        assert where in up.stdout
        assert where in status["note"]
        assert f"127.{number}.0.0/16 is used by user " in (sandbox.home / "daemon.log").read_text()

        sandbox.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        every = "pods,services,endpoints,nodes,configmaps"
        kinds = every if release == "1.2.2" else every + ",endpointslices"
        listed = sandbox.kubectl("get", kinds, "-A", "-o", "json").stdout
        assert f"127.{number}." not in listed
        assert sandbox.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.uid}").stdout == pods
        assert sandbox.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}").stdout == ports
        web = json.loads(sandbox.kubectl("get", "service", "web", "-o", "json").stdout)["spec"]
        front = json.loads(sandbox.kubectl("get", "service", "front", "-o", "json").stdout)["status"]
        for host in (f"{web['clusterIP']}:8080", f"{new}:{ports}", f"{front['loadBalancer']['ingress'][0]['ip']}:8080"):
            until(lambda host=host: _status(f"http://{host}/status/200") == "200", 20, f"an answer at {host}")


def _status(url: str) -> str:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", url]
    return subprocess.run(command, capture_output=True, text=True).stdout
