# SPDX-License-Identifier: Apache-2.0
"""What is for some workloads: policies that select none, twice the same, or those that they cannot reach."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.cluster import Obj
from labkit.ground.labels import selects
from labkit.istio.analyze.messages import listed, quoted
from labkit.istio.analyze.world import ROOT, Said, World, annotations_of, full, labels, missing, name, namespace, shown

__all__ = ["policies"]

_GATEWAY = "gateway.networking.k8s.io/gateway-name"
"""Label of the pods that Istio makes for a Gateway of the Gateway API."""

_AMBIENT = "ambient.istio.io/redirection"
_JUDGED = ("Service", "ServiceEntry", "AuthorizationPolicy", "KubernetesGateway", "HTTPRoute", "GRPCRoute")
_TYPES = ("istio.io/WaypointBound", "ZtunnelAccepted", "WaypointAccepted", "Accepted", "Programmed", "ResolvedRefs")
_BLOCKED = "BLOCKED_CIDRS_IN_JWKS_URIS"
_MOST = 5
"""Names that a message tells."""


def policies(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    for item in world.all("AuthorizationPolicy"):
        yield from _authorization(item, world)
    for kind, several, overlapping in (("Sidecar", "IST0111", "IST0110"), ("Telemetry", "IST0160", "IST0159")):
        yield from _one_for_each(world.all(kind), several, overlapping, world)
    for kind in ("AuthorizationPolicy", "RequestAuthentication", "Telemetry", "WasmPlugin"):
        yield from (said for item in world.all(kind) for said in _behind_a_gateway(item, world))
    providers = world.mesh.get("defaultProviders")
    if not (isinstance(providers, dict) and providers.get("accessLogging")):
        for item in world.all("Telemetry"):
            for logging in item["spec"].get("accessLogging") or []:
                if not logging.get("providers"):
                    yield Said(item, "IST0157", (name(item), quoted(namespace(item))))
    yield from _fetching(world)
    for item in (one for kind in _JUDGED for one in world.all(kind)):
        status = item.get("status") or {}
        for one in (one for part in (status, *status.get("parents", ())) for one in part.get("conditions") or []):
            if one.get("type") in _TYPES and (one.get("status") == "False" or one.get("reason") == "PartiallyInvalid"):
                yield Said(item, "IST0171", tuple(one.get(key) or "" for key in ("type", "reason", "message")))


def _authorization(item: Obj, world: World) -> Iterator[Said]:
    spec, where = item["spec"], namespace(item)
    everywhere = where == str(world.mesh.get("rootNamespace") or ROOT)
    selector = (spec.get("selector") or {}).get("matchLabels")
    targeted = spec.get("targetRef") or spec.get("targetRefs")
    if not targeted and not (everywhere and selector is None):
        there = world.selected(selector or {}, "" if everywhere else where)
        if not any(world.in_mesh(pod, pod) or annotations_of(pod).get(_AMBIENT) == "enabled" for pod in there):
            yield Said(item, "IST0127", (shown(selector),))
    for source in (one.get("source") or {} for rule in spec.get("rules") or [] for one in rule.get("from") or []):
        for wanted in [*(source.get("namespaces") or []), *(source.get("notNamespaces") or [])]:
            if not any(_fits(one, wanted) for one in world.namespaces):
                yield missing(item, "namespace", wanted, "kubectl get namespaces")


def _fits(known: str, wanted: str) -> bool:
    if wanted.startswith("*"):
        return known.endswith(wanted[1:])
    return known.startswith(wanted[:-1]) if wanted.endswith("*") else known.lower() == wanted.lower()


def _selector(item: Obj) -> dict[str, str]:
    spec = item["spec"]
    return (spec.get("workloadSelector") or {}).get("labels") or (spec.get("selector") or {}).get("matchLabels") or {}


def _one_for_each(items: list[Obj], several: str, overlapping: str, world: World) -> Iterator[Said]:
    """What may be there once for a namespace, and once for each workload."""
    for_all: dict[str, list[Obj]] = {}
    by_pod: dict[str, tuple[Obj, list[Obj]]] = {}
    for item in items:
        if item["spec"].get("targetRef") or item["spec"].get("targetRefs"):
            continue
        if not (selector := _selector(item)):
            for_all.setdefault(namespace(item), []).append(item)
            continue
        pods = list(world.selected(selector, namespace(item)))
        for pod in pods:
            by_pod.setdefault(full(pod), (pod, []))[1].append(item)
        if not pods:
            where = f"kubectl get pods -n {namespace(item)} -l {shown(selector)}"
            yield missing(item, "selector", shown(selector), where)
    ineffective: set[str] = set()
    for pod, same in by_pod.values():
        ambient = annotations_of(pod).get(_AMBIENT) == "enabled" and same[0]["kind"] == "Sidecar"
        for item in same:
            if ambient and full(item) not in ineffective:
                ineffective.add(full(item))
                yield Said(item, "IST0167", ("selected workload is in ambient mode, the policy has no impact",))
            elif not ambient and len(same) > 1:
                yield Said(item, overlapping, (listed(map(name, same)), quoted(namespace(pod)), quoted(name(pod))))
    for where, same in for_all.items():
        own = labels(world.namespaces.get(where, {}))
        with_sidecars = own.get("istio-injection") == "enabled" or own.get("istio.io/rev")
        for item in same:
            if own.get("istio.io/dataplane-mode") == "ambient" and not with_sidecars and item["kind"] == "Sidecar":
                yield Said(item, "IST0167", ("namespace is in ambient mode, the policy has no impact",))
            elif len(same) > 1:
                yield Said(item, several, (listed(map(name, same)), quoted(where)))


def _behind_a_gateway(item: Obj, world: World) -> Iterator[Said]:
    spec = item["spec"]
    selector = (spec.get("selector") or {}).get("matchLabels")
    if selector is None or spec.get("targetRef") or spec.get("targetRefs"):
        return
    for pod in world.pods.get(namespace(item), []):
        if _GATEWAY in labels(pod) and selects(selector, labels(pod)):
            yield Said(item, "IST0166", (labels(pod)[_GATEWAY],))


def _fetching(world: World) -> Iterator[Said]:
    """Whether istiod fetches keys from anywhere that a RequestAuthentication names."""
    asking = [full(one) for one in world.all("RequestAuthentication")]
    for item in world.all("Deployment") if asking else ():
        spec = (item["spec"].get("template") or {}).get("spec") or {}
        env = [one for container in spec.get("containers") or [] for one in container.get("env") or []]
        if labels(item).get("app") == "istiod" and not any(
            one.get("name") == _BLOCKED and one.get("value") for one in env
        ):
            more = f", and {len(asking) - _MOST} more" if len(asking) > _MOST else ""
            yield Said(item, "IST0175", (len(asking), ", ".join(asking[:_MOST]) + more))
