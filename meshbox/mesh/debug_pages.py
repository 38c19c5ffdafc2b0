# SPDX-License-Identifier: Apache-2.0
"""istiod's debug pages, as far as the mesh has what they show: with Istio's names for pages and fields."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from meshbox.contracts import Objects
from meshbox.mesh.kinds import GATEWAY_API_RESOURCES, ISTIO_RESOURCES
from meshbox.mesh.mesh_config import settings_in
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.revisions import is_istiod, revision_of
from meshbox.mesh.settings import mesh_settings
from meshbox.mesh.snapshot import Snapshot

__all__ = ["PAGES", "About"]

_Query = Mapping[str, str]
_TYPES = {"CDS": "clusters", "LDS": "listeners", "EDS": "endpoints", "RDS": "routes"}
_FIELDS = {"CDS": "cluster", "LDS": "listener", "EDS": "endpoint", "RDS": "route"}
_PREFIX = "type.googleapis.com/envoy.admin.v3."


class About(Struct, frozen=True):
    """What the pages are about.

    Args:
        objects: The cluster's objects.
        snapshot: The mesh as it is now.
        proxies: What each proxy has, by namespace and name of its pod.
        release: Istio's.
    """

    objects: Objects
    snapshot: Snapshot
    proxies: Mapping[tuple[str, str], ProxyState]
    release: str

    def connected(self, query: _Query) -> Iterator[tuple[str, ProxyState]]:
        """The proxies that are connected to the pod of istiod that asks, by "POD.NAMESPACE"; all where none does."""
        asker = query.get("namespace"), query.get("pod")
        for (namespace, name), state in sorted(self.proxies.items(), key=lambda one: (one[0][1], one[0][0])):
            if state.connected and (asker not in self._istiods() or asker == self._istiod((namespace, name))):
                yield f"{name}.{namespace}", state

    def _istiods(self, revision: str = "") -> list[tuple[str, str]]:
        pods = self.snapshot.pods
        return sorted(k for k, pod in pods.items() if is_istiod(pod) and revision in ("", revision_of(pod)))

    def _istiod(self, key: tuple[str, str]) -> tuple[str, str]:
        """Whom a proxy is connected to: one of its own revision, where there is one, and always the same."""
        pod = self.snapshot.pods.get(key)
        known = (pod is not None and self._istiods(revision_of(pod))) or self._istiods()
        return known[zlib.crc32("/".join(key).encode()) % len(known)]


def _status(state: ProxyState) -> dict[str, dict[str, str]]:
    """For each type that a proxy asks for, what it was sent last, and what it has taken."""
    found = {}
    for short, kind in _TYPES.items():
        told = state.told[kind]
        if told.sent >= 0:
            acked = str(max(told.acknowledged, 0))
            found[short] = {"sent": str(told.sent), "acked": acked, **({"refused": "true"} if told.refusing else {})}
    return found


def _syncz(about: About, query: _Query) -> Any:
    rows = []
    for proxy, state in about.connected(query):
        status = _status(state)
        row = {
            "cluster_id": "Kubernetes",
            "proxy": proxy,
            "proxy_type": state.node.partition("~")[0],
            "istio_version": str(state.metadata.get("ISTIO_VERSION") or about.release),
        }
        for short, field in _FIELDS.items():
            if short in status:
                row |= {f"{field}_sent": status[short]["sent"], f"{field}_acked": status[short]["acked"]}
        row["refused"] = ",".join(short for short, one in status.items() if "refused" in one)
        rows.append({key: value for key, value in row.items() if value})
    return rows


def _connections(about: About, query: _Query) -> Any:
    rows = [{"connectionId": proxy, "node": state.node} for proxy, state in about.connected(query)]
    return {"totalClients": len(rows), "clients": rows}


def _config_dump(about: About, query: _Query) -> Any:
    """What a proxy should have, in the form of its own config dump; None where it is not connected."""
    state = next((one for proxy, one in about.connected(query) if proxy == query.get("proxyID")), None)
    if state is None or state.config is None:
        return None
    config = state.config
    parts = (
        ("ClustersConfigDump", "dynamic_active_clusters", "cluster", config.clusters),
        ("ListenersConfigDump", "dynamic_listeners", "listener", config.listeners),
        ("RoutesConfigDump", "dynamic_route_configs", "route_config", config.routes),
        ("EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config", config.endpoints),
    )
    found = []
    for name, field, one, bodies in parts:
        items = [{one: json.loads(body)} for body in bodies.values()]
        if one == "listener":
            items = [{"name": item[one].get("name", ""), "active_state": item} for item in items]
        found.append({"@type": f"{_PREFIX}{name}", field: items})
    return {"configs": found}


def _configz(about: About, _: _Query) -> Any:
    resources = [*ISTIO_RESOURCES, *GATEWAY_API_RESOURCES]
    return [one for resource in resources for one in about.objects.list(resource)]


def _registryz(about: About, _: _Query) -> Any:
    return [
        {
            "hostname": service.host,
            "ports": [{"name": port.name, "port": port.number, "protocol": port.protocol} for port in service.ports],
            "endpoints": {
                str(port): [f"{one.address}:{one.port}" for one in ends] for port, ends in service.endpoints.items()
            },
        }
        for service in about.snapshot.services
    ]


def _mesh(about: About, _: _Query) -> Any:
    found = settings_in(about.objects.view("configmaps")) or {}
    return mesh_settings((found.get("data") or {}).get("mesh", ""))


def _list(_: About, __: _Query) -> Any:
    return [{"name": f"debug/{name}", "description": text} for name, (text, _) in sorted(PAGES.items())]


PAGES: dict[str, tuple[str, Callable[[About, _Query], Any]]] = {
    "config_dump": ("What the proxy ?proxyID=POD.NAMESPACE should have, as a config dump", _config_dump),
    "configz": ("All objects of Istio and of the Gateway API", _configz),
    "connections": ("The proxies that are connected", _connections),
    "list": ("These pages", _list),
    "mesh": ("The mesh's settings", _mesh),
    "registryz": ("All services with their endpoints", _registryz),
    "syncz": ("What each proxy was sent, and has taken", _syncz),
}
"""By name: what a page shows, and how it is made."""
