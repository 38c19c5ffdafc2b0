# SPDX-License-Identifier: Apache-2.0
"""The walk from an applied VirtualService to a route: what is looked at, and what is computed, on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.contracts import ApiError
from meshbox.mesh import Mesh, clusters, gateways, inbound, translate
from meshbox.mesh import kinds as names
from meshbox.mesh.istio_validation import verdicts
from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.settings import SandboxSettings
from tests.api.conftest import eventually
from tests.conftest import REPOSITORY, TOKEN

from .objects import PLAN, endpoints, istio, pod, service

Obj = dict[str, Any]

BASE = REPOSITORY / "labkit/istio/manifests/1.30.3/manifests/base.yaml"
RESOURCES = {
    "CustomResourceDefinition": "customresourcedefinitions.apiextensions.k8s.io",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations.admissionregistration.k8s.io",
}


@pytest.fixture
async def objects(tmp_path: Path, plan: AddressPlan) -> AsyncIterator[ObjectStore]:
    """The real object store with Istio's CRDs and webhooks, and a mesh that follows it."""
    settings = SandboxSettings("test", tmp_path, "1.30.3", plan, TOKEN)
    store = ObjectStore(settings)
    for name in ("istio-system", "bookinfo"):
        store.create("namespaces", {"metadata": {"name": name}})
    for obj in yaml.safe_load_all(BASE.read_text()):
        if obj["kind"] in RESOURCES:
            store.create(RESOURCES[obj["kind"]], obj)
    port = {"name": "https", "port": 443}
    meta = {"name": "istiod", "namespace": "istio-system"}
    store.create("services", {"metadata": meta, "spec": {"ports": [port]}}, "istio-system")
    subsets = [{"addresses": [{"ip": store.settings.plan.pod_cidr[9].compressed}], "ports": [port]}]
    store.create("endpoints", {"metadata": meta, "subsets": subsets}, "istio-system")
    mesh = Mesh(store, settings)
    store.add_admission(mesh.admission)
    await mesh.start()
    yield store
    await mesh.stop()
    store.close()


def to(subset: str) -> Obj:
    return {"hosts": ["shop"], "http": [{"route": [{"destination": {"host": "shop", "subset": subset}}]}]}


async def test_the_webhook_and_the_mesh_look_at_an_object_once(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, looked = [], []
    of, check = verdicts.Verdicts.of, verdicts.check

    def asking(self: verdicts.Verdicts, obj: Obj) -> Any:
        asked.append(obj["metadata"]["name"])
        return of(self, obj)

    def looking(obj: Obj, *, legacy: bool) -> Any:
        looked.append(obj["metadata"]["name"])
        return check(obj, legacy=legacy)

    monkeypatch.setattr(verdicts.Verdicts, "of", asking)
    monkeypatch.setattr(verdicts, "check", looking)
    made = objects.create(names.VIRTUAL_SERVICES, istio("shop", to("v1")), "bookinfo")
    await eventually(lambda: len(asked) == 2, "the mesh has met the object that the webhook let through")
    assert looked == ["shop"]
    objects.patch(names.VIRTUAL_SERVICES, "shop", {"metadata": {"labels": {"a": "b"}}}, "bookinfo")
    await eventually(lambda: len(asked) == 4, "the mesh has met the label")
    assert looked == ["shop"], "what is looked at is as it was"
    objects.patch(names.VIRTUAL_SERVICES, "shop", {"spec": to("v2")}, "bookinfo")
    await eventually(lambda: len(asked) == 6, "the mesh has met the change")
    assert looked == ["shop", "shop"]
    with pytest.raises(ApiError, match="wildcard host \\* is not allowed"):
        objects.patch(names.VIRTUAL_SERVICES, "shop", {"spec": {"hosts": ["*"]}}, "bookinfo")
    assert looked == ["shop", "shop", "shop"]
    assert objects.get(names.VIRTUAL_SERVICES, "shop", "bookinfo")["spec"] == made["spec"] | to("v2")


PROXIES, NAMESPACES = 12, ("red", "green", "blue")
COMPUTED = {
    "proxies": (translate, "_config"),
    "clusters": (clusters, "outbound"),
    "route tables": (translate, "outbound_tables"),
    "inbound": (inbound, "inbound"),
    "gateways": (gateways, "gateway"),
}


class Counted:
    """A mesh of twelve sidecars in three namespaces, and a gateway; what is computed for it is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memo, self.counts = Memo(), Counter[str]()
        self.services, self.pods = [service("shop", namespace="red")], []
        for index in range(PROXIES):
            namespace = NAMESPACES[index % len(NAMESPACES)]
            self.pods.append(pod(f"web-{index}", f"127.99.64.{index + 1}", namespace=namespace))
        self.pods.append(pod("edge", "127.99.70.1", namespace="istio-system", role="router", istio="edge"))
        self.endpoints = endpoints(self.services, self.pods)
        for what, (module, name) in COMPUTED.items():
            monkeypatch.setattr(module, name, self._counting(what, getattr(module, name)))
        port = {"number": 8080, "name": "http", "protocol": "HTTP"}
        servers = [{"port": port, "hosts": ["*"]}]
        self.gateway = istio("edge", {"selector": {"istio": "edge"}, "servers": servers}, "red")

    def _counting(self, what: str, function: Any) -> Any:
        def counted(*args: Any, **fields: Any) -> Any:
            self.counts[what] += 1
            return function(*args, **fields)

        return counted

    def computed(self, *virtual_services: Obj) -> dict[str, int]:
        """What a change to these VirtualServices has computed."""
        self.counts.clear()
        objects = {
            "services": self.services,
            "pods": self.pods,
            **self.endpoints,
            names.VIRTUAL_SERVICES: list(virtual_services),
            names.GATEWAYS: [self.gateway],
        }
        snapshot = Snapshot(objects, PLAN, legacy=False, memo=self.memo)
        for workload in snapshot.workloads.values():
            translate.translate(snapshot, workload)
        self.memo.settle()
        return dict(self.counts)


@pytest.mark.parametrize(
    ("more", "touched"),
    [
        ({}, {"proxies": 12, "route tables": 3}),
        ({"exportTo": ["."]}, {"proxies": 4, "route tables": 1}),
        ({"gateways": ["edge"]}, {"proxies": 1, "gateways": 1}),
        ({"gateways": ["edge"], "exportTo": ["."]}, {}),
    ],
    ids=["for all", "for its namespace", "for the gateway", "for a gateway that does not see it"],
)
def test_a_virtual_service_has_computed_only_what_it_touches(
    more: Obj, touched: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = Counted(monkeypatch)
    first = mesh.computed(istio("shop", {**to("v1"), **more}, "red"))
    assert first == {"proxies": 13, "clusters": 4, "route tables": 3, "inbound": 12, "gateways": 1}
    assert mesh.computed(istio("shop", {**to("v1"), **more}, "red")) == {}, "an equal one is no change"
    assert mesh.computed(istio("shop", {**to("v2"), **more}, "red")) == touched


def test_what_is_made_again_is_made_of_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Counted(monkeypatch)
    for _ in range(5):
        # Nothing asks for the parts of what is remembered as a whole.
        mesh.computed(istio("shop", to("v1"), "red"))
    assert mesh.computed(istio("shop", to("v2"), "red")) == {"proxies": 12, "route tables": 3}
