# SPDX-License-Identifier: Apache-2.0
"""Clients that are neither kubectl nor the official Python one: lightkube, kr8s, an operator of kopf's, and Helm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SandboxUnderTest, wait_until

PACKAGES = ("lightkube==1.0.1", "kr8s==0.20.15", "kopf==1.45.2")
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"

LIGHTKUBE = """
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap
client = Client(field_manager="lightkube")
meta = ObjectMeta(name="by-lightkube", namespace="default")
client.create(ConfigMap(metadata=meta, data={"a": "1"}))
client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=meta, data={"a": "2"}), force=True)
print(client.get(ConfigMap, "by-lightkube").data)
print([one.metadata.name for one in client.list(Deployment)])
for kind, found in client.watch(ConfigMap, fields={"metadata.name": "by-lightkube"}):
    print(kind, found.data)
    break
client.delete(ConfigMap, "by-lightkube")
try:
    client.get(ConfigMap, "by-lightkube")
except ApiError as error:
    print(error.status.code, error.status.message)
"""

KR8S = """
import urllib.request
import kr8s
from kr8s.objects import ConfigMap, Deployment
settings = ConfigMap({"metadata": {"name": "by-kr8s", "namespace": "default"}, "data": {"a": "1"}})
settings.create()
settings.patch({"data": {"a": "2"}})
print(dict(ConfigMap.get("by-kr8s").data))
container = {"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}
template = {"metadata": {"labels": {"app": "by-kr8s"}}, "spec": {"containers": [container]}}
spec = {"replicas": 1, "selector": {"matchLabels": {"app": "by-kr8s"}}, "template": template}
web = Deployment({"metadata": {"name": "by-kr8s", "namespace": "default"}, "spec": spec})
web.create()
web.wait("condition=Available", timeout=180)
web.scale(2)
web.wait("jsonpath='{.status.readyReplicas}'=2", timeout=180)
print([pod.status.phase for pod in web.pods()])
pod = web.pods()[0]
print(pod.exec(["echo", "inside"]).stdout)
with pod.portforward(80) as port:
    print(urllib.request.urlopen(f"http://127.0.0.1:{port}/").status)
print(len(list(kr8s.get("pods", label_selector={"app": "by-kr8s"}))))
web.delete()
settings.delete()
settings.wait("delete", timeout=180)
print(settings.exists())
"""

KOPF_KIND = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: answers.of.a.test}
spec:
  scope: Namespaced
  group: of.a.test
  names: {kind: Answer, plural: answers}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {to: {type: string}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""

KOPF = """
import kopf

@kopf.on.create("answers")
def create(body, spec, **_):
    kopf.info(body, reason="Answered", message=spec["to"])
    return {"seen": spec["to"]}

@kopf.on.update("answers")
def update(spec, patch, **_):
    patch.status["updated"] = spec["to"]

@kopf.on.delete("answers")
def delete(**_):
    print("the operator was asked before it went", flush=True)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has these clients, which nothing else here needs."""
    folder = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    found = folder / "bin" / "python"
    done = subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True, timeout=580
    )
    if done.returncode:
        pytest.skip(f"no package index gives {', '.join(PACKAGES)}: {done.stderr[-300:]}")
    return found


@pytest.fixture(scope="module")
def sandbox(start_shared_sandbox: Callable[..., SandboxUnderTest]) -> SandboxUnderTest:
    found = start_shared_sandbox("1.30.3")
    found.kubectl("create", "deployment", "web", "--image=nginx")
    found.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
    return found


@pytest.mark.parametrize(
    ("program", "said"),
    [
        pytest.param(
            LIGHTKUBE,
            ["{'a': '2'}", "['web']", "ADDED {'a': '2'}", '404 configmaps "by-lightkube" not found'],
            id="lightkube",
        ),
        pytest.param(KR8S, ["{'a': '2'}", "['Running', 'Running']", "b'inside\\n'", "200", "2", "False"], id="kr8s"),
    ],
)
def test_a_program(sandbox: SandboxUnderTest, python: Path, program: str, said: list[str]) -> None:
    done = subprocess.run([str(python), "-c", program], env=sandbox.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == said


def test_kopf(sandbox: SandboxUnderTest, python: Path, tmp_path: Path) -> None:
    """An operator sees each change, writes a status and events, and is asked before its object goes."""
    sandbox.kubectl("apply", "-f", "-", stdin=KOPF_KIND)
    sandbox.kubectl("wait", "--for=condition=Established", "crd/answers.of.a.test", "--timeout=240s")
    (tmp_path / "answering.py").write_text(KOPF)
    command = [str(python), "-m", "kopf", "run", "--standalone", "--namespace=default", "answering.py"]
    with (tmp_path / "log").open("w") as log:
        operator = subprocess.Popen(command, cwd=tmp_path, env=sandbox.env, stdout=log, stderr=log)
    try:
        kind = {"apiVersion": "of.a.test/v1", "kind": "Answer", "metadata": {"name": "one"}}
        sandbox.kubectl("create", "-f", "-", stdin=json.dumps({**kind, "spec": {"to": "life"}}))
        one = ("answers.of.a.test/one", "--timeout=180s")
        sandbox.kubectl("wait", "--for=jsonpath={.status.create.seen}=life", *one)
        sandbox.kubectl("patch", one[0], "--type=merge", "--patch", '{"spec": {"to": "all"}}')
        sandbox.kubectl("wait", "--for=jsonpath={.status.updated}=all", *one)
        events = ("get", "events", "--field-selector=involvedObject.name=one", "-o", "jsonpath={.items[*].message}")
        wait_until(lambda: sandbox.kubectl(*events).stdout == "life", what="the operator's event")
        sandbox.kubectl("delete", *one)
        assert "the operator was asked before it went" in (tmp_path / "log").read_text()
    finally:
        operator.terminate()
        operator.wait(60)


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Helm, this machine's or made of its sources."""
    if found := shutil.which("helm"):
        return Path(found)
    if shutil.which("go") is None:
        pytest.skip("this machine has neither Helm nor Go")
    folder = tmp_path_factory.mktemp("helm")
    env = {**os.environ, "GOBIN": str(folder)}
    done = subprocess.run(["go", "install", HELM], env=env, capture_output=True, text=True, timeout=1200)
    if done.returncode:
        pytest.skip(f"{HELM} cannot be made here: {done.stderr[-300:]}")
    return folder / "helm"


def test_helm(sandbox: SandboxUnderTest, helm: Path, tmp_path: Path) -> None:
    """Its own scaffold: installed, upgraded, rolled back, tested and uninstalled."""
    folders = {f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")}

    def run(*arguments: str) -> str:
        env = {**sandbox.env, **folders}
        done = subprocess.run([helm, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ready() -> str:
        return sandbox.kubectl("get", "deployment", "shop", "-o", "jsonpath={.status.readyReplicas}").stdout

    run("create", "shop")
    run("install", "shop", "./shop", "--wait", "--timeout=180s")
    assert ready() == "1"
    run("upgrade", "shop", "./shop", "--set", "replicaCount=2", "--wait", "--timeout=180s")
    assert ready() == "2"
    history = json.loads(run("history", "shop", "-o", "json"))
    assert [(one["revision"], one["status"]) for one in history] == [(1, "superseded"), (2, "deployed")]
    run("rollback", "shop", "1", "--wait", "--timeout=180s")
    assert ready() == "1"
    assert "Phase:          Succeeded" in run("test", "shop", "--timeout=180s")
    run("uninstall", "shop", "--wait", "--timeout=180s")
    assert json.loads(run("list", "-o", "json")) == []
    assert (
        sandbox.kubectl("get", "deployments,services,serviceaccounts", "-l", "app.kubernetes.io/name=shop").stdout == ""
    )
