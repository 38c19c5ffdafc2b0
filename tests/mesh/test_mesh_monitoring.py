# SPDX-License-Identifier: Apache-2.0
"""What the control plane counts of its own work, and who may read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest, ApiError
from meshbox.exposition import exposition
from meshbox.mesh import webhooks
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.cache import ObjectCache
from meshbox.mesh.metrics_pages import page
from meshbox.mesh.pilot_metrics import MeshMonitor
from tests.conftest import PATIENCE
from tests.metrics_page import Page

from .cluster import Cluster
from .objects import bookinfo, istio, pod, snapshot

RULE = {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}


def request(obj: dict[str, Any], resource: str, namespace: str = "bookinfo") -> AdmissionRequest:
    return AdmissionRequest("CREATE", resource, namespace, obj["metadata"]["name"], obj)


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_what_the_webhooks_say_is_counted(release: str, cluster_of: Callable[[str], Cluster]) -> None:
    objects, monitor = cluster_of(release), MeshMonitor()
    admission = MeshAdmission(objects, objects.settings, monitor)
    hook = {
        "name": "pilot.validation.istio.io" if release == "1.2.2" else "rev.validation.istio.io",
        "clientConfig": {"service": {"name": "hook", "namespace": "istio-system"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    asked: dict[str, Any] = {"apiGroups": ["networking.istio.io"], "apiVersions": ["*"]}
    hook["rules"] = [{"operations": ["*"], **asked, "resources": ["virtualservices"]}]
    objects.put(webhooks.VALIDATING, {"metadata": {"name": "z"}, "webhooks": [hook]})
    port = {"name": "https", "port": 443}
    objects.put("services", {"metadata": {"name": "hook", "namespace": "istio-system"}, "spec": {"ports": [port]}})
    objects.serve("hook", [{"ip": "127.99.64.9"}], [port])
    rule = {**istio("reviews", RULE), "kind": "VirtualService", "apiVersion": "networking.istio.io/v1alpha3"}
    admission.validate(request(rule, "virtualservices.networking.istio.io"))
    admission.validate(request(rule, "gateways.networking.istio.io"))
    for spec in ({**RULE, "http": [{}]}, {**RULE, "http": "x"}):
        with pytest.raises(ApiError):
            admission.validate(request({**rule, "spec": spec}, "virtualservices.networking.istio.io"))
    found = Page(exposition(monitor.validation()))
    what = {"group": "networking.istio.io", "version": "v1alpha3", "resource": "virtualservices"}
    assert found.all("galley_validation_passed") == [1]
    assert found.one("galley_validation_passed", **what) == 1
    assert found.one("galley_validation_failed", **what, reason="invalid_resource") == 1
    assert found.one("galley_validation_failed", **what, reason="crd_conversion_error") == 1


async def test_events_changes_and_snapshots_are_counted_as_they_come(cluster_of: Callable[[str], Cluster]) -> None:
    objects, monitor = cluster_of("1.2.2"), MeshMonitor()
    # The API server's own Service is there in every cluster.
    objects.drop("services", "kubernetes", "default")
    changes: list[str] = []
    cache = ObjectCache(objects, legacy=True, changed=changes.append, monitor=monitor)
    cache.start()
    # Once each watch has begun; what is written later is seen as a change of its own.
    for _ in range(20):
        await asyncio.sleep(0)
    rule = {**istio("reviews", RULE), "kind": "VirtualService"}
    objects.put("virtualservices.networking.istio.io", rule)
    objects.put("virtualservices.networking.istio.io", {**rule, "spec": {**RULE, "hosts": ["x", "y"]}})
    objects.drop("virtualservices.networking.istio.io", "reviews", "bookinfo")
    objects.put("services", bookinfo()[0][0])
    async with asyncio.timeout(PATIENCE):
        while len(changes) < 4:
            await asyncio.sleep(0.001)
    await cache.stop()
    for number, resource in enumerate(changes):
        monitor.changed(resource, again=number > 0)
    monitor.gathered(longest=False)
    found = Page(exposition(monitor.xds(), monitor.gathering()))
    for event in ("add", "update", "delete"):
        assert found.one("pilot_k8s_cfg_events", type="VirtualService", event=event) == 1
    assert found.one("pilot_k8s_reg_events", type="Services", event="add") == 1
    assert found.one("pilot_push_triggers", type="config") == 1
    assert found.one("pilot_push_triggers", type="service") == 1
    assert found.one("galley_source_kube_event_success_total") == 4
    assert found.one("galley_runtime_strategy_on_change_total") == 4
    assert found.one("galley_runtime_strategy_timer_resets_total") == 3
    assert found.one("galley_runtime_strategy_timer_quiesce_reached_total") == 1
    assert "galley_runtime_strategy_timer_max_time_reached_total" not in found.names
    assert found.one("galley_runtime_processor_snapshot_events_total_sum") == 4


def control(name: str, component: str, created: str) -> dict[str, Any]:
    made = pod(name, "127.99.64.99")
    labels = {"istio": component}
    made["metadata"] |= {"creationTimestamp": created, "labels": labels, "namespace": "istio-system"}
    return made


def test_a_page_tells_what_the_mesh_holds_once(cluster_of: Callable[[str], Cluster]) -> None:
    older, newer = control("p-z", "pilot", "2026-01-01T00:00:00Z"), control("p-a", "pilot", "2026-01-02T00:00:00Z")
    galley = control("g", "galley", "2026-01-01T00:00:00Z")
    rule = {**istio("reviews", RULE), "kind": "VirtualService", "apiVersion": "networking.istio.io/v1alpha3"}
    mesh = snapshot(legacy=True, pods=[older, newer, galley], virtual_services=[rule])
    objects, monitor = cluster_of("1.2.2"), MeshMonitor()
    for number in range(3):
        objects.put("rules.config.istio.io", {"metadata": {"name": f"r{number}", "namespace": "istio-system"}})
    spec = {"attributes": {"request.path": {}, "request.host": {}}}
    objects.put("attributemanifests.config.istio.io", {"metadata": {"name": "m", "namespace": "other"}, "spec": spec})

    def read(component: str, name: str) -> Page:
        text = page(component, ("istio-system", name), mesh, monitor, objects, connected=6, legacy=True)
        return Page(text)

    pilot = read("pilot", "p-z")
    assert pilot.one("pilot_xds") == 6
    assert pilot.one("pilot_services") == len(bookinfo()[0])
    assert pilot.one("pilot_virt_services") == 1
    assert pilot.one("pilot_xds_eds_instances", cluster="outbound|9080||reviews.bookinfo.svc.cluster.local") == 3
    assert read("pilot", "p-a").series == []
    held = read("galley", "g")
    assert (
        held.one("galley_runtime_state_type_instances_total", typeURL="istio/networking/v1alpha3/virtualservices") == 1
    )
    mixer = read("mixer", "anything")
    assert mixer.one("mixer_config_rule_config_count") == 3
    assert mixer.one("mixer_config_handler_config_count") == 0
    assert mixer.one("mixer_config_attribute_count") == 2
    assert read("citadel", "c").series == []
