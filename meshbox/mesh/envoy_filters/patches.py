# SPDX-License-Identifier: Apache-2.0
"""The patches of EnvoyFilters, in the order in which they are applied to one proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import re2  # type: ignore[import-untyped]
from msgspec import Struct

from labkit.ground.config import DEFAULT_RELEASE, RELEASES
from labkit.ground.labels import selects
from meshbox.contracts import View
from meshbox.mesh.attachment import GATEWAY_API, is_for_targets
from meshbox.mesh.envoy import Json, typed
from meshbox.mesh.envoy_filters.merging import normal
from meshbox.mesh.kinds import ENVOY_FILTERS
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot

__all__ = ["Patch", "chosen", "fits_proxy", "patches", "unplayed"]

PLACES = (
    *("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER", "EXTENSION_CONFIG"),
    *("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE", "CLUSTER"),
)
"""What patches can be applied to here."""

_LUA = "envoy.extensions.filters.http.lua.v3.Lua"
_OLD_NAMES = {
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.router": "envoy.filters.http.router",
    "jwt-auth": "envoy.filters.http.jwt_authn",
    "envoy.http_connection_manager": "envoy.filters.network.http_connection_manager",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
}
"""What filters were called when Istio was at 1.2."""

_QUIET = re2.Options()
_QUIET.log_errors = False


class Patch(Struct, frozen=True):
    """One patch.

    Args:
        index: Its place in its object.
        place: What it is applied to (`applyTo`).
        match: Where.
        operation: What is done.
        value: With what; its fields have normal names.
        filter_class: After which of Istio's filters a new one belongs.
    """

    index: int
    place: str
    match: Json
    operation: str
    value: Json
    filter_class: str = ""

    @property
    def hint(self) -> str:
        """Why it may find nothing: it asks for a filter by a name that Istio no longer uses; "" otherwise."""
        inner = _map(_map(self.about("listener").get("filterChain")).get("filter"))
        for name in (inner.get("name"), _map(inner.get("subFilter")).get("name")):
            if isinstance(name, str) and name in _OLD_NAMES:
                return f": {name} is called {_OLD_NAMES[name]} now"
        return ""

    def about(self, kind: str) -> Json:
        """What its match says of a `kind` of resource."""
        return _map(self.match.get(kind))

    def within(self, context: str) -> bool:
        """Whether it is meant for what a proxy does in `context`."""
        return str(self.match.get("context") or "ANY") in ("ANY", context)


def _map(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _maps(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def patches(obj: View, *, legacy: bool) -> list[Patch]:
    """All patches of an EnvoyFilter that can be played."""
    spec = _map(obj.get("spec"))
    if legacy:
        made = (_of_filter(index, one) for index, one in enumerate(_maps(spec.get("filters"))))
        return [one for one in made if one is not None]
    found = []
    for index, one in enumerate(_maps(spec.get("configPatches"))):
        patch = _map(one.get("patch"))
        place, operation = str(one.get("applyTo") or ""), str(patch.get("operation") or "")
        if place in PLACES:
            value = _map(normal(_map(patch.get("value"))))
            kind = str(patch.get("filterClass") or "")
            found.append(Patch(index, place, _map(one.get("match")), operation, value, kind))
    return found


def _of_filter(index: int, given: Json) -> Patch | None:
    """A filter in the form of Istio 1.2, as the patch that does the same; None where there is nothing to do."""
    if _nothing(given):
        return None
    asked, position = _map(given.get("listenerMatch")), _map(given.get("insertPosition"))
    listener: Json = {"portNumber": asked["portNumber"]} if asked.get("portNumber") else {}
    where = f"INSERT_{position.get('index') or 'FIRST'}"
    relative = str(position.get("relativeTo") or "")
    listener["filterChain"] = {"filter": {"subFilter": {"name": _OLD_NAMES.get(relative, relative)}}}
    config = _map(normal(_map(given.get("filterConfig"))))
    value = {"name": "envoy.filters.http.lua", "typed_config": {**config, **typed(_LUA)}}
    context = str(asked.get("listenerType") or "ANY")
    return Patch(index, "HTTP_FILTER", {"context": context, "listener": listener}, where, value)


def _nothing(given: Json) -> str:
    """Why nothing comes of a filter in the form of Istio 1.2; "" where something does."""
    if given.get("filterName") not in ("envoy.lua", "envoy.filters.http.lua") or given.get("filterType") != "HTTP":
        name = f"{given.get('filterType') or 'INVALID'} filter {given.get('filterName') or ''}".strip()
        return f"{name} has no effect: of this form only HTTP filter envoy.lua is played"
    if _map(given.get("insertPosition")).get("index") == "LAST":
        return "insertPosition LAST has no effect: envoy.router before it ends the chain, in Istio as"
    if _map(given.get("listenerMatch")).get("listenerProtocol") == "TCP":
        return "listenerProtocol TCP has no effect: HTTP filters are in HTTP listeners only, in Istio as"
    return ""


def unplayed(spec: Any, *, legacy: bool) -> Iterator[str]:
    """What an EnvoyFilter asks for that is not done: sentences that "in the sandbox" ends."""
    spec = _map(spec)
    if legacy:
        for index, one in enumerate(_maps(spec.get("filters"))):
            if words := _nothing(one):
                yield f"filters[{index}]: {words}"
            for key in ("portNamePrefix", "address") if not words else ():
                if _map(one.get("listenerMatch")).get(key):
                    yield f"filters[{index}]: listenerMatch.{key} has no effect: the filter is inserted without it"
        if spec.get("configPatches"):
            yield "configPatches, which Istio 1.2 does not know, has no effect"
        return
    for key in ("filters", "workloadLabels"):
        if spec.get(key):
            yield f"{key}, which Istio took away (use configPatches and workloadSelector), has no effect"
    for index, one in enumerate(_maps(spec.get("configPatches"))):
        place = one.get("applyTo")
        if place not in PLACES:
            yield f"configPatches[{index}]: applyTo {place or 'INVALID'} has no effect"
        match = _map(one.get("match"))
        if match.get("waypoint"):
            yield f"configPatches[{index}]: match.waypoint has no effect"
        if _map(match.get("listener")).get("portName"):
            yield f"configPatches[{index}]: match.listener.portName has no effect: its number counts, in Istio as"
    for index, target in enumerate(_maps(spec.get("targetRefs"))):
        if (target.get("group"), target.get("kind")) != (GATEWAY_API, "Gateway"):
            what = f"{target.get('kind')} of group {target.get('group') or 'core'}"
            yield f"targetRefs[{index}]: {what} has no effect: only a Gateway of {GATEWAY_API} is found"
        if target.get("namespace"):
            yield f"targetRefs[{index}]: namespace has no effect: Gateways of the object's own are found"


def chosen(snapshot: Snapshot, workload: Workload) -> list[View]:
    """The EnvoyFilters for a proxy: by priority, of one the root namespace's first, and then by age."""
    root = snapshot.mesh.root_namespace
    found = [obj for obj in snapshot.all(ENVOY_FILTERS) if _chooses(obj, workload, root, legacy=snapshot.legacy)]

    def order(obj: View) -> tuple[int, bool]:
        priority = _map(obj.get("spec")).get("priority")
        return priority if isinstance(priority, int) else 0, obj["metadata"]["namespace"] != root

    return sorted(found, key=order)


def _chooses(obj: View, workload: Workload, root: str, *, legacy: bool) -> bool:
    namespace, spec = obj["metadata"]["namespace"], _map(obj.get("spec"))
    if namespace not in (workload.namespace, root):
        return False
    targets = [] if legacy else _maps(spec.get("targetRefs"))
    if targets:
        return is_for_targets(targets, namespace, workload)
    wanted = spec.get("workloadLabels") if legacy else _map(spec.get("workloadSelector")).get("labels")
    return selects(_map(wanted), workload.labels)


def _release(snapshot: Snapshot) -> str:
    return RELEASES[0] if snapshot.legacy else DEFAULT_RELEASE


def fits_proxy(patch: Patch, snapshot: Snapshot, workload: Workload) -> bool:
    """Whether a proxy is of the version, and has the metadata, that a patch asks for."""
    asked = _map(patch.match.get("proxy"))
    version = asked.get("proxyVersion")
    if version:
        try:
            # Python's own expressions can take for ever; these are Go's, whose time is bounded.
            if not re2.search(str(version), _release(snapshot), options=_QUIET):
                return False
        except re2.error:
            return False
    wanted = _map(asked.get("metadata"))
    if not wanted:
        return True
    known = _metadata(snapshot, workload)
    return all(known.get(key) == str(value) for key, value in wanted.items())


def _metadata(snapshot: Snapshot, workload: Workload) -> dict[str, str]:
    spec = snapshot.pods[workload.namespace, workload.pod]["spec"]
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    variables = [e for c in containers if c["name"] == "istio-proxy" for e in c.get("env") or []]
    said = {
        str(e["name"]).removeprefix("ISTIO_META_"): str(e.get("value") or "")
        for e in variables
        if str(e["name"]).startswith("ISTIO_META_")
    }
    return {
        "CLUSTER_ID": "Kubernetes",
        "WORKLOAD_NAME": workload.name,
        **said,
        "NAME": workload.pod,
        "NAMESPACE": workload.namespace,
        "SERVICE_ACCOUNT": workload.service_account,
        "ISTIO_VERSION": _release(snapshot),
    }
