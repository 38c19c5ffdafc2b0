# SPDX-License-Identifier: Apache-2.0
"""The real kubectl against the API server alone: what a learner types, and the genuine manifests of both releases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import CRDS, KUBECTL, Cluster, crd, eventually, pod

pytestmark = pytest.mark.skipif(not Path(KUBECTL).exists(), reason="kubectl is not installed beside Python")

DEPLOYMENT = """
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
      - {name: web, image: "nginx:1"}
      - {name: sidecar, image: "proxy:1"}
"""


@pytest.mark.parametrize(
    ("command", "resource", "name", "expected"),
    [
        ("namespace shop", "namespaces", "shop", {"status.phase": "Active"}),
        ("configmap c --from-literal=a=b", "configmaps", "c", {"data": {"a": "b"}}),
        ("secret generic s --from-literal=a=b", "secrets", "s", {"data": {"a": "Yg=="}, "type": "Opaque"}),
        ("serviceaccount robot", "serviceaccounts", "robot", {}),
        ("deployment d --image=nginx --replicas=0 --port=80", "deployments.apps", "d", {"spec.replicas": 0}),
        ("service nodeport np --tcp=80:8080 --node-port=30111", "services", "np", {"spec.type": "NodePort"}),
        ("service clusterip ci --tcp=80:http", "services", "ci", {"spec.type": "ClusterIP"}),
        ("service externalname en --external-name=a.b", "services", "en", {"spec.externalName": "a.b"}),
        ("job j --image=x", "jobs.batch", "j", {"spec.template.spec.restartPolicy": "Never"}),
        ("cronjob cj --image=x --schedule=@daily", "cronjobs.batch", "cj", {"spec.schedule": "@daily"}),
        ("role r --verb=get --resource=pods", "roles.rbac.authorization.k8s.io", "r", {}),
        ("rolebinding rb --role=r --serviceaccount=default:robot", "rolebindings.rbac.authorization.k8s.io", "rb", {}),
        ("clusterrole cr --verb=get --non-resource-url=/x", "clusterroles.rbac.authorization.k8s.io", "cr", {}),
        (
            "clusterrolebinding crb --clusterrole=cr --user=u",
            "clusterrolebindings.rbac.authorization.k8s.io",
            "crb",
            {"roleRef.name": "cr"},
        ),
        ("ingress i --rule=a.b/c*=svc:80", "ingresses.networking.k8s.io", "i", {}),
        ("pdb p --selector=a=b --min-available=0", "poddisruptionbudgets.policy", "p", {"spec.minAvailable": 0}),
        ("priorityclass pc --value=0", "priorityclasses.scheduling.k8s.io", "pc", {"value": 0}),
        ("quota q --hard=cpu=1,pods=2", "resourcequotas", "q", {"spec.hard": {"cpu": "1", "pods": "2"}}),
    ],
)
async def test_create_sends_protobuf(
    cluster: Cluster, command: str, resource: str, name: str, expected: dict[str, Any]
) -> None:
    run = await cluster.kubectl("create", *command.split())
    assert run.out.endswith(" created\n")
    kept = cluster.objects.get(resource, name)
    for path, value in expected.items():
        found = kept
        for part in path.split("."):
            found = found[part]
        assert found == value, path


async def test_the_first_steps_of_the_walk_through(cluster: Cluster) -> None:
    await cluster.kubectl("create", "namespace", "bookinfo")
    run = await cluster.kubectl("label", "namespace", "bookinfo", "istio-injection=enabled")
    assert run.out == "namespace/bookinfo labeled\n"
    run = await cluster.kubectl("get", "ns", "-l", "istio-injection=enabled", "-o", "name")
    assert run.out == "namespace/bookinfo\n"
    run = await cluster.kubectl("get", "services")
    assert run.out.splitlines()[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    run = await cluster.kubectl("get", "pods", "-n", "bookinfo")
    assert run.err == "No resources found in bookinfo namespace.\n"


async def test_apply_again_says_unchanged(cluster: Cluster) -> None:
    assert (await cluster.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)).out == "deployment.apps/web created\n"
    assert (await cluster.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)).out == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace("nginx:1", "nginx:2").replace('      - {name: sidecar, image: "proxy:1"}\n', "")
    assert (await cluster.kubectl("apply", "-f", "-", stdin=changed)).out == "deployment.apps/web configured\n"
    spec = cluster.objects.get("deployments.apps", "web")["spec"]["template"]["spec"]
    assert [(one["name"], one["image"]) for one in spec["containers"]] == [("web", "nginx:2")]


SIZED = DEPLOYMENT.replace(
    'image: "nginx:1"}',
    'image: "nginx:1", resources: {requests: {cpu: 0.25, memory: 1024Mi}, limits: {cpu: 1000m, memory: 1.5Gi}}}',
)
"""Quantities in other forms than the one that is stored."""


@pytest.mark.parametrize("side", [[], ["--server-side"]])
async def test_quantities_are_stored_in_one_form_and_applied_again_change_nothing(
    cluster: Cluster, side: list[str]
) -> None:
    await cluster.kubectl("apply", *side, "-f", "-", stdin=SIZED)
    kept = cluster.objects.get("deployments.apps", "web")
    assert kept["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "250m", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1536Mi"},
    }
    # kubectl itself compares texts, and sends a patch for what is written otherwise: there is nothing to be changed.
    run = await cluster.kubectl("apply", *side, "-f", "-", stdin=SIZED)
    assert run.out == f"deployment.apps/web {'serverside-applied' if side else 'configured'}\n"
    assert cluster.objects.get("deployments.apps", "web") == kept
    stored = SIZED.replace("0.25", "250m").replace("1024Mi", "1Gi").replace("1000m", '"1"').replace("1.5Gi", "1536Mi")
    await cluster.kubectl("apply", *side, "-f", "-", stdin=stored)
    run = await cluster.kubectl("apply", *side, "-f", "-", stdin=stored)
    assert run.out == f"deployment.apps/web {'serverside-applied' if side else 'unchanged'}\n"
    # A Deployment's generation counts its annotations too, and kubectl keeps what it has applied in one.
    generation = cluster.objects.get("deployments.apps", "web")["metadata"]["generation"]
    assert generation == (1 if side else 2)


async def test_server_side_apply_and_its_conflicts(cluster: Cluster) -> None:
    run = await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    assert run.out == "deployment.apps/web serverside-applied\n"
    await cluster.kubectl("scale", "deployment", "web", "--replicas=5")
    run = await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT, check=False)
    assert run.code == 1
    assert ".spec.replicas" in run.err
    assert "Please review the fields above" in run.err
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=DEPLOYMENT)
    assert cluster.objects.get("deployments.apps", "web")["spec"]["replicas"] == 2


async def test_client_side_apply_becomes_server_side(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("proxy:1", "proxy:2")
    await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=changed)
    kept = cluster.objects.get("deployments.apps", "web")
    assert kept["spec"]["template"]["spec"]["containers"][1]["image"] == "proxy:2"
    managers = {one["manager"] for one in kept["metadata"]["managedFields"]}
    assert "kubectl-client-side-apply" not in managers


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["set", "image", "deploy/web", "web=nginx:9"], "spec.template.spec.containers.0.image", "nginx:9"),
        (["set", "env", "deploy/web", "A=1"], "spec.template.spec.containers.1.env.0.value", "1"),
        (["scale", "deploy/web", "--replicas=7"], "spec.replicas", 7),
        (["label", "deploy/web", "a=b"], "metadata.labels.a", "b"),
        (["annotate", "deploy/web", "a=b"], "metadata.annotations.a", "b"),
        (["patch", "deploy", "web", "-p", '{"spec":{"replicas":3}}'], "spec.replicas", 3),
        (["patch", "deploy", "web", "--type=merge", "-p", '{"spec":{"paused":true}}'], "spec.paused", True),
        (
            ["patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":4}]'],
            "spec.replicas",
            4,
        ),
        (["patch", "deploy", "web", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":1}}'],
         "status.replicas", 1),
    ],
)  # fmt: skip
async def test_changes(cluster: Cluster, arguments: list[str], path: str, value: Any) -> None:
    await cluster.kubectl("create", "-f", "-", stdin=DEPLOYMENT)
    await cluster.kubectl(*arguments)
    found: Any = cluster.objects.get("deployments.apps", "web")
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == value


async def test_edit_replace_and_rollout_restart(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.kubectl("create", "-f", "-", stdin=DEPLOYMENT)
    shown = json.loads((await cluster.kubectl("get", "deploy", "web", "-o", "json")).out)
    shown["spec"]["replicas"] = 6
    run = await cluster.kubectl("replace", "-f", "-", stdin=json.dumps(shown))
    assert run.out == "deployment.apps/web replaced\n"
    run = await cluster.kubectl("replace", "-f", "-", stdin=json.dumps(shown), check=False)
    assert "the object has been modified" in run.err
    await cluster.kubectl("rollout", "restart", "deploy/web")
    template = cluster.objects.get("deployments.apps", "web")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


async def test_wait_sees_a_change(cluster: Cluster) -> None:
    cluster.objects.create("pods", pod())
    waiting = asyncio.ensure_future(
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=120s")
    )
    await eventually(lambda: len(cluster.server.watches), "kubectl watches")
    cluster.objects.patch("pods", "web", {"status": {"phase": "Running"}}, subresource="status")
    assert (await waiting).out == "pod/web condition met\n"


async def test_delete_waits_until_it_is_gone(cluster: Cluster) -> None:
    cluster.objects.create("pods", pod(nodeName="n"))
    deleting = asyncio.ensure_future(cluster.kubectl("delete", "pod", "web", "--timeout=120s"))
    await eventually(lambda: len(cluster.server.watches), "kubectl watches")
    assert not deleting.done()
    cluster.objects.delete("pods", "web", grace_period=0)
    assert (await deleting).out == 'pod "web" deleted from default namespace\n'
    assert (await cluster.kubectl("delete", "pod", "web", "--ignore-not-found=true")).out == ""
    run = await cluster.kubectl("delete", "pod", "web", check=False)
    assert run.err == 'Error from server (NotFound): pods "web" not found\n'


async def test_a_namespace_is_deleted_once_it_is_finalized(cluster: Cluster) -> None:
    await cluster.kubectl("create", "ns", "shop")
    deleting = asyncio.ensure_future(cluster.kubectl("delete", "ns", "shop", "--timeout=120s"))
    await eventually(lambda: len(cluster.server.watches), "kubectl watches")
    run = await cluster.kubectl("create", "configmap", "c", "-n", "shop", check=False)
    assert "because it is being terminated" in run.err
    namespace = cluster.objects.get("namespaces", "shop")
    cluster.objects.update("namespaces", {**namespace, "spec": {}}, subresource="finalize")
    assert (await deleting).out == 'namespace "shop" deleted\n'


async def test_get_watch_prints_rows(cluster: Cluster) -> None:
    cluster.objects.create("pods", pod("a"))
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "get", "pods", "-w", env=cluster.environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(120):
        assert (await process.stdout.readline()).split() == [b"NAME", b"READY", b"STATUS", b"RESTARTS", b"AGE"]
        assert (await process.stdout.readline()).split()[:3] == [b"a", b"0/1", b"Pending"]
        cluster.objects.create("pods", pod("b"))
        assert (await process.stdout.readline()).split()[0] == b"b"
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["auth", "can-i", "delete", "nodes"], "yes\n"),
        (["api-versions"], "apps/v1\n"),
        (["version"], "Server Version: v1.35.4"),
        (["get", "--raw", "/readyz"], "ok"),
        (["cluster-info"], "control plane"),
        (["get", "events", "-A"], ""),
        (["get", "all"], "service/kubernetes"),
        (["describe", "ns", "default"], "Status:       Active"),
        (["describe", "svc", "kubernetes"], "Endpoints:"),
        (["explain", "pod.spec"], "KIND:       Pod"),
    ],
)
async def test_what_one_asks(cluster: Cluster, arguments: list[str], expected: str) -> None:
    assert expected in (await cluster.kubectl(*arguments)).out


async def test_the_kubectl_that_comes_along_is_within_the_skew_of_what_is_played(cluster: Cluster) -> None:
    """Beyond one minor version kubectl warns, and a learner's first command would begin with that."""
    versions = json.loads((await cluster.kubectl("version", "-o", "json")).out)
    client, server = (int(versions[which]["minor"]) for which in ("clientVersion", "serverVersion"))
    assert abs(client - server) <= 1, f"kubectl 1.{client} (constraints.txt) for a Kubernetes 1.{server}"
    assert (await cluster.kubectl("version")).err == ""


async def test_api_resources_and_a_custom_one(cluster: Cluster) -> None:
    cluster.objects.create(CRDS, crd())
    rows = [line.split() for line in (await cluster.kubectl("api-resources", "-o", "wide")).out.splitlines()]
    assert ["widgets", "example.com/v1", "true", "Widget"] in [row[:4] for row in rows]
    run = await cluster.kubectl(
        "apply", "-f", "-", stdin='{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}'
    )
    assert run.out == "widget.example.com/w created\n"
    assert (await cluster.kubectl("get", "widget", "-o", "name")).out == "widget.example.com/w\n"
    assert (await cluster.kubectl("delete", "crd", "widgets.example.com")).code == 0
    run = await cluster.kubectl("get", "widgets", check=False)
    assert run.code == 1


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("apiVersion: v1\nkind: Gadget\nmetadata: {name: a}", 'no matches for kind "Gadget" in version "v1"'),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containerz: []}", 'unknown field "spec.containerz"'),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\nspec: {ports: [{port: 1}]}", "a DNS-1035 label"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {n: 1}", "cannot unmarshal number"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: gone}", 'namespaces "gone" not found'),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata: {n: '" + "x" * 4_000_000 + "'}", "too large"),
    ],
)
async def test_a_learners_mistakes_are_named(cluster: Cluster, manifest: str, words: str) -> None:
    run = await cluster.kubectl("create", "-f", "-", stdin=manifest, check=False)
    assert run.code == 1
    assert words in run.err


async def test_kubectl_notices_that_the_server_went_away_and_came_back(cluster: Cluster) -> None:
    await cluster.kubectl("create", "configmap", "kept")
    await cluster.server.stop()
    run = await cluster.kubectl("get", "configmaps", check=False)
    assert "refused" in run.err
    await cluster.server.start()
    assert "kept" in (await cluster.kubectl("get", "configmaps")).out


ISTIO_12 = {
    "crds": "install/kubernetes/helm/istio-init/files",
    "demo": "install/kubernetes/istio-demo.yaml",
    "bookinfo": "samples/bookinfo/platform/kube/bookinfo.yaml",
    "gateway": "samples/bookinfo/networking/bookinfo-gateway.yaml",
    "rules": "samples/bookinfo/networking/destination-rule-all.yaml",
    "httpbin": "samples/httpbin/httpbin.yaml",
}


@pytest.mark.genuine
@pytest.mark.parametrize("release", ["1.2.2"])
async def test_the_genuine_1_2_2(cluster: Cluster, genuine: Callable[[str], Path]) -> None:
    folder = str(genuine("1.2.2"))
    await cluster.kubectl("create", "namespace", "istio-system")
    for expected in ({"created": 28}, {"unchanged": 28}):
        assert (await cluster.kubectl("apply", "-f", ISTIO_12["crds"], folder=folder)).words == expected
    run = await cluster.kubectl("get", "crd")
    assert sum("istio" in line for line in run.out.splitlines()) == 23
    first = (await cluster.kubectl("apply", "-f", ISTIO_12["demo"], folder=folder)).words
    assert first == {"created": 122, "configured": 1, "unchanged": 28}
    again = await cluster.kubectl("apply", "-f", ISTIO_12["demo"], folder=folder)
    changed = [line for line in again.out.splitlines() if not line.endswith(" unchanged")]
    # With a real server too: kubectl compares what it sent with what the defaults, and the one form of quantities
    # (1Gi for 1024Mi), made of it.
    assert len(changed) == 9
    assert all(line.startswith(("deployment.apps/", "mutatingwebhookconfiguration.")) for line in changed)
    for part in ("bookinfo", "gateway", "rules", "httpbin"):
        for word in ("created", "unchanged"):
            run = await cluster.kubectl("apply", "-f", ISTIO_12[part], folder=folder)
            lines = [line for line in run.out.splitlines() if not line.endswith(f" {word}")]
            assert lines == ([] if word == "created" else lines)
            assert all(line.startswith("deployment.apps/") for line in lines), lines
    ports = (
        await cluster.kubectl(
            "get", "svc", "istio-ingressgateway", "-n", "istio-system",
            "-o", 'jsonpath={.spec.ports[?(@.name=="http2")].nodePort}',
        )
    ).out  # fmt: skip
    assert ports == "31380"
    row = (
        (await cluster.kubectl("get", "svc", "-n", "istio-system", "istio-ingressgateway")).out.splitlines()[1].split()
    )
    assert (row[1], row[3]) == ("LoadBalancer", "<pending>")
    for part in ("httpbin", "rules", "gateway", "bookinfo"):
        assert set((await cluster.kubectl("delete", "--wait=false", "-f", ISTIO_12[part], folder=folder)).words) <= {
            "deleted", "namespace",
        }  # fmt: skip
    await cluster.kubectl("delete", "-f", ISTIO_12["crds"], folder=folder)
    assert cluster.objects.list(CRDS) == []


@pytest.mark.genuine
async def test_the_genuine_1_30_3(cluster: Cluster, genuine: Callable[[str], Path]) -> None:
    folder = str(genuine("1.30.3"))
    await cluster.kubectl("create", "namespace", "istio-system")
    manifests = ["base", "istiod", "istio-ingressgateway", "istio-egressgateway"]
    files = [word for name in manifests for word in ("-f", f"manifests/{name}.yaml")]
    run = await cluster.kubectl("apply", *files, folder=folder, check=False)
    # base.yaml has an object of a kind that it only defines itself; kubectl looks kinds up before it sends.
    assert run.code in (0, 1)
    run = await cluster.kubectl("apply", *files, folder=folder)
    assert set(run.words) <= {"created", "configured", "unchanged"}
    for sample in ("addons", "bookinfo/platform/kube", "httpbin", "curl", "bookinfo/networking"):
        run = await cluster.kubectl("apply", "-f", f"samples/{sample}", folder=folder)
        assert set(run.words) <= {"created", "configured"}
    run = await cluster.kubectl("apply", "-f", "samples/bookinfo/platform/kube", folder=folder)
    assert set(run.words) == {"unchanged"}
    explained = (await cluster.kubectl("explain", "virtualservice.spec.http")).out
    assert "FIELD: http <[]Object>" in explained
    run = await cluster.kubectl("apply", "--server-side", "-f", "samples/bookinfo/platform/kube", folder=folder)
    assert set(run.words) == {"serverside-applied"}


@pytest.mark.genuine
async def test_a_current_kubernetes_does_not_know_the_older_kinds(
    cluster: Cluster, genuine: Callable[[str], Path]
) -> None:
    file = f"{ISTIO_12['crds']}/crd-11.yaml"
    run = await cluster.kubectl("apply", "-f", file, folder=str(genuine("1.2.2")), check=False)
    assert run.code == 1
    assert 'no matches for kind "CustomResourceDefinition" in version "apiextensions.k8s.io/v1beta1"' in run.err
