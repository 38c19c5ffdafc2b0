# SPDX-License-Identifier: Apache-2.0
"""A small mesh whose proxies' configuration is patched, and the patches for it."""

from __future__ import annotations

import json
from typing import Any

from meshbox.mesh.envoy_filters.patches import chosen
from meshbox.mesh.envoy_filters.player import Made, patched
from meshbox.mesh.envoy_filters.site import Site
from meshbox.mesh.kinds import ENVOY_FILTERS
from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .objects import PLAN, endpoints, pod, service

Obj = dict[str, Any]

MANAGER = "envoy.filters.network.http_connection_manager"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
OWN = {"name": "own", "typed_config": {"@type": "type.googleapis.com/own"}}
KEY = ("bookinfo", "client-1")


def envoy_filter(
    *patches: Obj, name: str = "f", namespace: str = "bookinfo", created: str = "2020", **spec: Any
) -> Obj:
    meta = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {"kind": "EnvoyFilter", "metadata": meta, "spec": {**spec, "configPatches": list(patches)}}


def patch(place: str, operation: str, value: Obj | None = None, context: str = "ANY", **match: Any) -> Obj:
    return {
        "applyTo": place,
        "match": {"context": context, **match},
        "patch": {"operation": operation, **({"value": value} if value is not None else {})},
    }


def world(*filters: Obj, legacy: bool = False, ip: str = "127.99.64.1") -> Snapshot:
    pods = [pod("client-1", ip, app="client"), pod("reviews-1", "127.99.64.2", app="reviews")]
    services = [service("client"), service("reviews")]
    placed = endpoints(services, [one for one in pods if one["status"]["podIP"]], legacy=legacy)
    objects = {"pods": pods, "services": services, **placed, ENVOY_FILTERS: list(filters)}
    return Snapshot(objects, PLAN, legacy=legacy, memo=Memo())


def made(*filters: Obj, legacy: bool = False) -> Made:
    snapshot = world(*filters, legacy=legacy)
    workload = snapshot.workloads[KEY]
    given = chosen(snapshot, workload)
    return patched(snapshot, workload, Site.of(snapshot, workload, given), translate(snapshot, workload), given)


def read(found: dict[str, bytes], name: str) -> Obj:
    body: Obj = json.loads(found[name])
    return body


def http_filters(listener: Obj, chain: int = 0) -> list[str]:
    manager = next(one for one in listener["filter_chains"][chain]["filters"] if one["name"] == MANAGER)
    return [one["name"] for one in manager["typed_config"]["http_filters"]]
