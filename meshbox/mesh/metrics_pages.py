# SPDX-License-Identifier: Apache-2.0
"""The pages of metrics that the control plane's pods show: counted by the mesh, which does their work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from meshbox.contracts import Objects, View
from meshbox.exposition import exposition, gauge
from meshbox.mesh.kinds import ISTIO_RESOURCES, VIRTUAL_SERVICES
from meshbox.mesh.model import labels
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.snapshot import Snapshot

__all__ = ["page"]

_MIXER = {
    "rules": ("mixer_config_rule_config_count", "The number of known rules in the current config."),
    "instances": ("mixer_config_instance_config_count", "The number of known instances in the current config."),
    "handlers": ("mixer_config_handler_config_count", "The number of known handlers in the current config."),
}
_ATTRIBUTES = ("mixer_config_attribute_count", "The number of known attributes in the current config.")


def page(
    component: str,
    pod: tuple[str, str],
    snapshot: Snapshot,
    monitor: MeshMonitor,
    objects: Objects,
    *,
    connected: int,
    legacy: bool,
) -> str:
    """The metrics of a component of the control plane, as one of its pods shows them.

    Args:
        component: "pilot", "galley", "mixer"; nothing is known of any other.
        pod: Namespace and name of the pod that asks. Of several pods the oldest speaks for all, or a sum would count
            everything twice.
        snapshot: The mesh.
        monitor: What it has done.
        objects: The cluster's objects.
        connected: How many proxies are connected.
        legacy: Whether it is Istio 1.2.
    """
    if component == "mixer":
        return exposition(_mixer(objects))
    if pod != _speaker(component, snapshot.pods.values()):
        return ""
    if component == "pilot":
        webhooks = () if legacy else (*monitor.validation(), *monitor.injection())
        return exposition(_pilot(snapshot, connected, legacy=legacy), monitor.xds(), webhooks)
    if component == "galley":
        return exposition(monitor.validation(), monitor.gathering(), _instances(snapshot))
    return ""


def _speaker(component: str, pods: Iterable[View]) -> tuple[str, str] | None:
    found = [pod for pod in pods if labels(pod).get("istio") == component]
    oldest = min(
        found, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]), default=None
    )
    return (oldest["metadata"]["namespace"], oldest["metadata"]["name"]) if oldest else None


def _pilot(snapshot: Snapshot, connected: int, *, legacy: bool) -> Iterator[str]:
    text = "Number of endpoints connected to this pilot using XDS."
    yield from gauge("pilot_xds", text, [({}, connected)])
    yield from gauge("pilot_services", "Total services known to pilot.", [({}, len(snapshot.services))])
    rules = len(snapshot.all(VIRTUAL_SERVICES))
    yield from gauge("pilot_virt_services", "Total virtual services known to pilot.", [({}, rules)])
    if legacy:
        counts = [
            ({"cluster": f"outbound|{port.number}||{service.host}"}, float(len(service.endpoints.get(port.number, ()))))
            for service in snapshot.services
            for port in service.ports
        ]
        text = "Instances for each cluster, as of last push. Zero instances is an error."
        yield from gauge("pilot_xds_eds_instances", text, counts)


def _instances(snapshot: Snapshot) -> Iterator[str]:
    counts = []
    for resource in ISTIO_RESOURCES:
        plural, _, group = resource.partition(".")
        if found := snapshot.all(resource):
            version = str(found[0].get("apiVersion", "")).rpartition("/")[2]
            counts.append(({"typeURL": f"istio/{group.partition('.')[0]}/{version}/{plural}"}, float(len(found))))
    text = "The number of type instances per type URL"
    yield from gauge("galley_runtime_state_type_instances_total", text, counts)


def _mixer(objects: Objects) -> Iterator[str]:
    for plural, (name, text) in _MIXER.items():
        yield from gauge(name, text, [({}, len(objects.list(f"{plural}.config.istio.io")))])
    manifests = objects.list("attributemanifests.config.istio.io")
    attributes = {name for one in manifests for name in _map(_map(one.get("spec")).get("attributes"))}
    yield from gauge(*_ATTRIBUTES, [({}, len(attributes))])


def _map(value: Any) -> dict[str, Any]:
    # What Mixer is told has no schema: it can be anything.
    return value if isinstance(value, dict) else {}
