# SPDX-License-Identifier: Apache-2.0
"""labkit.cluster on a real API server with real pods: the reasons, the healing, the errors that a learner meets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import cluster
from labkit.cluster.client import Client
from labkit.cluster.following import Following
from labkit.ground.errors import ClusterError, NoTargetError, NotReadyError, SettingError
from tests.conftest import SandboxUnderTest

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
    - name: app
      image: {image}
      command: {command}
"""
CURL = "docker.io/curlimages/curl:8.16.0"


@pytest.fixture(scope="module")
def sandbox(start_shared_sandbox: Callable[..., SandboxUnderTest]) -> SandboxUnderTest:
    return start_shared_sandbox("1.30.3")


@pytest.fixture
def in_use(as_before: None, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> cluster.Chosen:
    """The sandbox as the target in use."""
    monkeypatch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
    return cluster.use(cluster.Target(str(sandbox.kubeconfig)))


@pytest.fixture
def namespace(in_use: cluster.Chosen, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, on the sandbox as the target in use."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60].rstrip("-")
    cluster.kubectl(f"create namespace {name}", show=False)
    yield name
    cluster.kubectl(["delete", "namespace", name], show=False, timeout=180)


def manifests(release: str) -> Path:
    return Path(cluster.__file__).parents[1] / "istio" / "manifests" / release


def httpbin(namespace: str) -> None:
    cluster.apply(manifests("1.30.3") / "samples/httpbin/httpbin.yaml", namespace=namespace, show=False)
    cluster.wait_for(cluster.Ready(namespace), timeout=120)


def reason(namespace: str, state: str) -> cluster.Workload:
    """The one workload of `namespace`, once it is in `state`."""

    seen: list[cluster.Workload] = []

    def look() -> str | None:
        # Looked at again, it may be in another one: what crashes is started anew.
        seen[:] = cluster.readiness(namespace).workloads
        return None if len(seen) == 1 and seen[0].state == state else str(seen)

    cluster.wait_for(cluster.Condition(f"the workload to be {state}", look), timeout=120, every=0.2)
    return seen[0]


def answers(forward: cluster.PortForward, status: int) -> bool:
    """Whether httpbin answers; it is ready a moment before it listens."""
    try:
        return cluster.fetch(f"{forward.url}/status/{status}", timeout=60).status == status
    except ClusterError:
        return False


def test_an_image_that_is_not_there(namespace: str) -> None:
    cluster.kubectl(f"create deployment web --image=docker.io/no/such:1.0 -n {namespace}", show=False)
    with pytest.raises(NotReadyError, match=r"Deployment web .* ImagePull: image docker\.io/no/such:1\.0"):
        cluster.wait_for(cluster.Ready(namespace), timeout=120)


def test_a_program_that_ends(namespace: str) -> None:
    text = POD.format(name="ends", image=CURL, command='[sh, -c, "echo no configuration >&2; exit 3"]')
    cluster.apply(text, namespace=namespace, show=False)
    seen = reason(namespace, "CrashLoop")
    assert "(exit code 3)" in seen.reason
    assert seen.reason.endswith("its last line: no configuration")


def test_the_cluster_ends_a_wait(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    watched = threading.Event()
    send, stream = Client.send, Client.stream

    def sending(self: Client, typed: str, path: str, **how: Any) -> Any:
        asked.append(path.rpartition("/")[2])
        return send(self, typed, path, **how)

    def streaming(self: Client, *about: Any) -> Any:
        answer = stream(self, *about)
        watched.set()
        return answer

    def delete() -> None:
        assert watched.wait(60)
        subprocess.run([cluster.kubectl_program(), "delete", "configmap", "a", "-n", namespace], check=True)

    cluster.kubectl(f"create configmap a -n {namespace}", show=False)
    cluster.kubectl(f"create configmap b -n {namespace}", show=False)
    monkeypatch.setattr(Client, "send", sending)
    monkeypatch.setattr(Client, "stream", streaming)
    deleting = threading.Thread(target=delete)
    deleting.start()
    cluster.wait_for(cluster.Gone("configmaps", "a", namespace), timeout=60)
    deleting.join()
    assert asked.count("configmaps") == 1


def test_a_pod_is_replaced_and_the_forward_heals(namespace: str, until: Callable[..., Any]) -> None:
    httpbin(namespace)
    with cluster.port_forward("svc/httpbin", 8000, namespace=namespace, show=False) as forward:
        until(lambda: answers(forward, 418), what="httpbin to answer")
        port = forward.port
        cluster.kubectl(f"delete pods --all -n {namespace}", show=False)
        cluster.wait_for(cluster.Ready(namespace), timeout=120)

        until(lambda: answers(forward, 201), 30, "the forward to be back")
        assert forward.port == port


def test_exec_says_what_the_command_said(namespace: str) -> None:
    text = POD.format(name="curl", image=CURL, command="[sleep, infinity]")
    cluster.apply(text, namespace=namespace, show=False)
    cluster.wait_for(cluster.Ready(namespace), timeout=120)
    assert cluster.exec("curl", ["sh", "-c", "echo hello"], namespace=namespace, show=False) == "hello\n"
    with pytest.raises(ClusterError, match="command terminated with exit code 7") as caught:
        cluster.exec("curl", ["sh", "-c", "exit 7"], namespace=namespace, show=False)
    assert "The container was reached" in caught.value.next_step
    with pytest.raises(ClusterError, match="nope"):
        cluster.exec("curl", "true", container="nope", namespace=namespace, show=False)


def test_nothing_is_left(namespace: str) -> None:
    before = cluster.snapshot(show=False)
    httpbin(namespace)
    names = {(e.kind, e.name) for e in cluster.snapshot(show=False).difference(before).added}
    assert {("Deployment", "httpbin"), ("Service", "httpbin"), ("ServiceAccount", "httpbin")} <= names
    assert not any(kind in ("Pod", "ReplicaSet") for kind, _ in names), "what is owned goes with its owner"
    cluster.delete(manifests("1.30.3") / "samples/httpbin/httpbin.yaml", namespace=namespace, show=False)
    assert not cluster.snapshot(show=False).difference(before)


def test_images_can_be_removed_from_the_node(namespace: str) -> None:
    httpbin(namespace)

    def there() -> str | None:
        return None if cluster.images("httpbin") else "not listed yet"

    cluster.wait_for(cluster.Condition("the node to list the image", there), timeout=120)
    used = cluster.images("httpbin")
    assert cluster.remove_images(used, timeout=1) == used, "an image in use stays"
    cluster.delete(manifests("1.30.3") / "samples/httpbin/httpbin.yaml", namespace=namespace, show=False)
    cluster.wait_for(cluster.Gone("pods", namespace=namespace), timeout=120)
    assert cluster.remove_images(used) == []
    assert cluster.images("httpbin") == []


@pytest.mark.parametrize(
    ("text", "said", "step"),
    [
        ("apiVersion: v1\nkind: Pood\nmetadata: {name: a}\n", 'no matches for kind "Pood"', "api-resources"),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n",
            'no matches for kind "Gateway"',
            "CRDs first",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatta: {}\n", 'unknown field "datta"', "field named"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: eighty}]}\n",
            "port",
            "field named above",
        ),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: A_B}\nspec: {ports: [{port: 80}]}\n", "A_B", "field named"),
        ("apiVersion: v1\nkind: ConfigMap\n", "name", ""),
        ("just: text\n", "kind not set", "apiVersion, kind and metadata.name"),
    ],
)
def test_what_the_server_refuses(in_use: cluster.Chosen, text: str, said: str, step: str) -> None:
    with pytest.raises(ClusterError) as caught:
        cluster.apply(text, namespace="default", show=False)
    assert said in caught.value.message
    assert step in caught.value.next_step
    assert caught.value.next_step


def test_the_shell_talks_to_the_same_cluster(namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.shell(f"kubectl get namespaces -o name | grep {namespace}") == f"namespace/{namespace}\n"
    assert f"$ kubectl get namespaces -o name | grep {namespace}" in capsys.readouterr().out
    assert os.environ["KUBECONFIG"] == cluster.current().variable


def test_a_forward_ends_with_its_target(namespace: str, until: Callable[..., Any]) -> None:
    httpbin(namespace)
    chosen = cluster.current()
    with cluster.port_forward("svc/httpbin", 8000, namespace=namespace, show=False) as forward:
        until(lambda: answers(forward, 201), what="httpbin to answer")
        assert cluster.use(chosen.named) == chosen
        assert not forward.closed, "the same cluster, chosen again"
        with pytest.raises(SettingError):
            cluster.use(cluster.Target(chosen.named.kubeconfig, "no-such-context"))
        assert forward.closed
        with pytest.raises(NotReadyError, match="was ended"):
            forward.wait_until_bound()

        def refused() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", forward.port)) != 0

        until(refused, 20, "the forward to end")
    assert cluster.use(chosen.named) == chosen


def test_a_sandbox_stays_the_same_cluster_until_it_is_made_anew(
    as_before: None,
    start_sandbox: Callable[..., SandboxUnderTest],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., Any],
) -> None:
    sandbox = start_sandbox("1.30.3", name="one")
    monkeypatch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
    chosen = cluster.use(cluster.Target(str(sandbox.kubeconfig)))
    for end in ("down", "kill"):
        with Following("configmaps", f"after-{end}") as following:
            following.wait(60)
            # Begins to watch.
            following.wait(0)
            if end == "down":
                assert sandbox.labkit("down", "--name", "one").returncode == 0
            else:
                os.kill(json.loads(sandbox.labkit("status", "--name", "one", "--json").stdout)["pid"], signal.SIGKILL)
            assert sandbox.labkit("up", "--name", "one").returncode == 0
            cluster.kubectl(f"create configmap after-{end}", show=False)
            until(following.objects, 60, "the new object to be told")
        assert cluster.use(chosen.named) == chosen
    assert sandbox.labkit("down", "--name", "one", "--delete").returncode == 0
    assert sandbox.labkit("up", "--name", "one", "--release", "1.30.3").returncode == 0
    with pytest.raises((ClusterError, NoTargetError)) as caught:
        cluster.kubectl("create configmap another", show=False)
    assert "first cell again" in caught.value.next_step
    assert cluster.use(chosen.named).uid != chosen.uid
    assert cluster.get("configmaps", "another") == []
