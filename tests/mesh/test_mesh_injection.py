# SPDX-License-Identifier: Apache-2.0
"""What the injector writes into pods, and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest, ApiError
from meshbox.mesh.admission import MeshAdmission

from .cluster import CONTROL_PLANE, Cluster
from .conftest import RELEASES, REPOSITORY
from .objects import stored

Obj = dict[str, Any]

WEBHOOKS = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
RESOURCES = {"Service": "services", "ConfigMap": "configmaps", "MutatingWebhookConfiguration": WEBHOOKS}
INJECTOR = {"1.2.2": "istio-sidecar-injector", "1.30.3": "istiod"}


Installed = Callable[..., Cluster]


@pytest.fixture
def installed(cluster_of: Callable[[str], Cluster]) -> Installed:
    """Brings what injection depends on into a cluster: of a release's manifests in a folder, or our own."""

    def install(release: str, folder: Path | None = None, *, ready: bool = True) -> Cluster:
        if folder is not None and not (folder / CONTROL_PLANE[release]).exists():
            pytest.skip(f"{folder / CONTROL_PLANE[release]} is not there")
        objects = cluster_of(release)
        for kind, resource in RESOURCES.items():
            objects.install(kind, resource, CONTROL_PLANE, folder)
        if ready:
            objects.serve(INJECTOR[release], [{"ip": "127.99.64.1"}], [{"name": "https", "port": 443}])
        objects.put("namespaces", {"metadata": {"name": "bookinfo", "labels": {"istio-injection": "enabled"}}})
        return objects

    return install


@pytest.fixture(params=["own", "genuine"])
def source(request: pytest.FixtureRequest) -> Any:
    """Where a release's manifests are: our own, and the genuine ones."""

    def folder(release: str) -> Path:
        if request.param == "own":
            return REPOSITORY / "labkit" / "istio" / "manifests" / release
        return REPOSITORY.parent / "shared" / "releases" / f"istio-{release}"

    return folder


def pod(**fields: Any) -> Obj:
    labels = {"app": "details", "version": "v1", "pod-template-hash": "5c7846b89c"}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "details-v1-5c7846b89c", "uid": "1"}
    owner["controller"] = True
    container = {"name": "details", "image": "x", "ports": [{"containerPort": 9080, "protocol": "TCP"}]}
    return {
        "metadata": {
            "name": "details-v1-5c7846b89c-abcde",
            "labels": labels,
            "ownerReferences": [owner],
            **fields.pop("meta", {}),
        },
        "spec": {"serviceAccountName": "bookinfo-details", "containers": [container], **fields},
    }


def asked(objects: Cluster, obj: Obj, namespace: str = "bookinfo") -> Obj:
    """The pod as the API server shows it to its webhooks."""
    given = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
    return stored("pods", given, legacy=objects.settings.legacy)


def inject(objects: Cluster, obj: Obj, namespace: str = "bookinfo") -> Obj:
    shown = asked(objects, obj, namespace)
    request = AdmissionRequest("CREATE", "pods", namespace, shown["metadata"]["name"], shown)
    MeshAdmission(objects, objects.settings).mutate(request)
    return shown


def named(containers: list[Obj]) -> list[str]:
    return [container["name"] for container in containers]


def test_the_old_sidecar_is_a_second_container(source: Any, installed: Installed) -> None:
    found = inject(installed("1.2.2", source("1.2.2")), pod())
    spec = found["spec"]
    assert named(spec["initContainers"]) == ["istio-init"]
    assert named(spec["containers"]) == ["details", "istio-proxy"]
    proxy = spec["containers"][1]
    assert proxy["image"] == "docker.io/istio/proxyv2:1.2.2"
    assert spec["initContainers"][0]["image"] == "docker.io/istio/proxy_init:1.2.2"
    assert proxy["args"][:2] == ["proxy", "sidecar"]
    flags = dict(zip(proxy["args"][2::2], proxy["args"][3::2], strict=False))
    assert flags["--serviceCluster"] == "details.$(POD_NAMESPACE)"
    assert flags["--applicationPorts"] == "9080"
    assert flags["--discoveryAddress"] == "istio-pilot.istio-system:15010"
    assert proxy["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15020}
    assert {"name": "istio-certs", "secret": {"optional": True, "secretName": "istio.bookinfo-details"}} in spec[
        "volumes"
    ]
    status = json.loads(found["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert (status["initContainers"], status["containers"]) == (["istio-init"], ["istio-proxy"])


def test_todays_sidecar_is_an_init_container_that_goes_on(source: Any, installed: Installed) -> None:
    found = inject(installed("1.30.3", source("1.30.3")), pod(initContainers=[{"name": "mine", "image": "x"}]))
    spec, meta = found["spec"], found["metadata"]
    assert named(spec["initContainers"]) == ["istio-init", "istio-proxy", "mine"]
    assert named(spec["containers"]) == ["details"]
    proxy = spec["initContainers"][1]
    assert proxy["restartPolicy"] == "Always"
    assert proxy["image"].endswith("/proxyv2:1.30.3")
    env = {e["name"]: e.get("value") for e in proxy["env"]}
    assert env["ISTIO_META_WORKLOAD_NAME"] == "details-v1"
    assert env["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/bookinfo/deployments/details-v1"
    assert meta["labels"]["security.istio.io/tlsMode"] == "istio"
    assert meta["labels"]["service.istio.io/canonical-name"] == "details"
    assert meta["labels"]["service.istio.io/canonical-revision"] == "v1"
    assert meta["annotations"]["kubectl.kubernetes.io/default-container"] == "details"
    assert meta["annotations"]["prometheus.io/port"] == "15020"
    assert {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}} in spec["volumes"]


def test_an_applications_http_probes_are_asked_through_the_proxy(source: Any, installed: Installed) -> None:
    container = {
        "name": "web",
        "image": "x",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "timeoutSeconds": 3},
        "livenessProbe": {"tcpSocket": {"port": 8080}},
    }
    found = inject(installed("1.30.3", source("1.30.3")), pod(containers=[container]))
    web = found["spec"]["containers"][0]
    assert web["readinessProbe"]["httpGet"] == {"path": "/app-health/web/readyz", "port": 15020, "scheme": "HTTP"}
    defaults = {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}
    live = {"path": "/app-health/web/livez", "port": 15020, "scheme": "HTTP"}
    assert web["livenessProbe"] == {"httpGet": live, **defaults}
    env = {e["name"]: e.get("value") for e in found["spec"]["initContainers"][1]["env"]}
    assert json.loads(env["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/web/readyz": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 3},
        "/app-health/web/livez": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 1},
    }


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("obj", "namespace"),
    [
        (pod(), "plain"),
        (pod(hostNetwork=True), "bookinfo"),
        (pod(meta={"annotations": {"sidecar.istio.io/inject": "false"}}), "bookinfo"),
        (pod(meta={"annotations": {"sidecar.istio.io/status": "{}"}}), "bookinfo"),
    ],
)
def test_pods_that_get_no_sidecar(release: str, obj: Obj, namespace: str, installed: Installed) -> None:
    objects = installed(release)
    assert inject(objects, obj, namespace) == asked(objects, obj, namespace)


def test_a_label_of_the_pod_decides_today(installed: Installed) -> None:
    objects = installed("1.30.3")
    out = pod()
    out["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    assert inject(objects, out) == asked(objects, out)
    into = pod()
    into["metadata"]["labels"]["sidecar.istio.io/inject"] = "true"
    assert named(inject(objects, into, "plain")["spec"]["initContainers"]) == ["istio-init", "istio-proxy"]


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (
            "1.2.2",
            'Internal error occurred: failed calling webhook "sidecar-injector.istio.io": Post '
            "https://istio-sidecar-injector.istio-system.svc:443/inject?timeout=30s: "
            'no endpoints available for service "istio-sidecar-injector"',
        ),
        (
            "1.30.3",
            'Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": '
            'failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": '
            'no endpoints available for service "istiod"',
        ),
    ],
)
def test_without_the_injector_pods_wait(source: Any, release: str, message: str, installed: Installed) -> None:
    objects = installed(release, source(release), ready=False)
    with pytest.raises(ApiError) as refused:
        inject(objects, pod())
    assert refused.value.code == 500
    assert refused.value.message == message


def test_the_proxys_image_can_be_chosen_by_annotation(installed: Installed) -> None:
    objects = installed("1.30.3")
    annotated = pod(
        meta={
            "annotations": {
                "sidecar.istio.io/proxyImage": "example.com/mine/proxyv2:7",
                "sidecar.istio.io/proxyCPU": "5m",
            }
        }
    )
    proxy = inject(objects, annotated)["spec"]["initContainers"][1]
    assert proxy["image"] == "example.com/mine/proxyv2:7"
    assert proxy["resources"] == {"requests": {"cpu": "5m"}}


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_written_belongs_to_the_pod_alone(release: str, installed: Installed) -> None:
    objects = installed(release)
    first, second = inject(objects, pod()), inject(objects, pod())
    assert first == second
    for container in [*first["spec"]["initContainers"], *first["spec"]["containers"]]:
        container.setdefault("resources", {})["limits"] = "changed"
    assert inject(objects, pod()) == second
