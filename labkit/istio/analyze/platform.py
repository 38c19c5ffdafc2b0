# SPDX-License-Identifier: Apache-2.0
"""What Istio stands on: its webhooks, the mesh's networks, the Gateway API's CRDs; what is no longer played."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

from labkit.cluster import Obj
from labkit.istio.analyze.injection import chooses
from labkit.istio.analyze.messages import listed
from labkit.istio.analyze.world import ROOT, Said, World, full, labels, name

__all__ = ["deprecations", "gateway_api", "networks", "webhooks"]

_REVISION = "istio.io/rev"
_REGISTRIES = ("Kubernetes", "Mock", "External")


def webhooks(world: World) -> Iterator[Said]:
    """Webhooks that would inject twice, that lead to no Service, or out of the cluster by a doubtful address."""
    hooks: dict[str, tuple[Obj, Obj]] = {}
    revisions: set[str] = set()
    for item in world.all("MutatingWebhookConfiguration"):
        own = item.get("webhooks") or []
        named = set(_revisions(item))
        if named or any((hook.get("name") or "").endswith("istio.io") for hook in own):
            hooks |= {f"{name(item)}/{hook.get('name', '')}": (item, hook) for hook in own}
            revisions |= named
    yield from _overlapping(hooks, sorted(revisions))
    there = {full(one) for one in world.all("Service")}
    for item, hook in hooks.values():
        service = (hook.get("clientConfig") or {}).get("service") or {}
        which = f"{service.get('namespace', '')}/{service.get('name', '')}"
        if service and which not in there:
            yield Said(item, "IST0139", (f"Injector refers to a control plane service that does not exist: {which}.",))
    for kind, prefixes in (
        ("ValidatingWebhookConfiguration", ("istiod-default-validator", "istio-validator")),
        ("MutatingWebhookConfiguration", ("istio-sidecar-injector",)),
    ):
        for item in world.all(kind):
            if name(item).startswith(prefixes):
                yield from (said for hook in item.get("webhooks") or [] for said in _outside(item, hook))


def _revisions(item: Obj) -> Iterator[str]:
    if _REVISION in labels(item):
        yield labels(item)[_REVISION]
    for hook in item.get("webhooks") or []:
        for selector in (hook.get(kind) or {} for kind in ("namespaceSelector", "objectSelector")):
            yield from filter(None, [(selector.get("matchLabels") or {}).get(_REVISION)])
            for one in selector.get("matchExpressions") or []:
                yield from (one.get("values") or [] if one.get("key") == _REVISION else ())


def _overlapping(hooks: dict[str, tuple[Obj, Obj]], revisions: list[str]) -> Iterator[Said]:
    def every(key: str, values: tuple[str, str]) -> list[dict[str, str]]:
        base: list[dict[str, str]] = [{}, *({key: value} for value in values)]
        return [*base, *({**one, _REVISION: revision} for revision in revisions for one in base)]

    told: set[tuple[str, tuple[str, ...]]] = set()
    spaces = every("istio-injection", ("enabled", "disabled"))
    for space, own in itertools.product(spaces, every("sidecar.istio.io/inject", ("true", "false"))):
        fitting = sorted(
            which
            for which, (_, hook) in hooks.items()
            if chooses(hook.get("namespaceSelector"), space) and chooses(hook.get("objectSelector"), own)
        )
        for which in fitting if len(fitting) > 1 else ():
            others = tuple(one for one in fitting if one != which)
            if (which, others) not in told:
                told.add((which, others))
                words = f"Webhook overlaps with others: {listed(others)}. This may cause injection to occur twice."
                yield Said(hooks[which][0], "IST0139", (words,))


def _outside(item: Obj, hook: Obj) -> Iterator[Said]:
    config = hook.get("clientConfig") or {}
    url, about = config.get("url"), hook.get("name") or ""
    if url is None:
        if not config.get("service"):
            yield Said(item, "IST0163", ("", about, "is blank"))
        return
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host:
        yield Said(item, "IST0163", (url, about, "is blank" if not url else "was not provided"))
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    yield Said(item, "IST0164", (url, about))


def networks(world: World) -> Iterator[Said]:
    """Registries of the mesh's networks that nobody knows."""
    about = {"kind": "MeshNetworks", "metadata": {"name": "meshnetworks", "namespace": ROOT}}
    clusters = {
        key
        for one in world.all("Secret")
        if labels(one).get("istio/multiCluster") == "true"
        for key in one.get("data") or {}
    }
    given = world.networks.get("networks")
    for network, one in given.items() if isinstance(given, dict) else ():
        ends = one.get("endpoints") if isinstance(one, dict) else None
        for end in ends if isinstance(ends, list) else ():
            registry = end.get("fromRegistry") if isinstance(end, dict) else None
            if registry and str(registry) not in {*_REGISTRIES, *clusters}:
                yield Said(about, "IST0126", (registry, network))


def gateway_api(world: World) -> Iterator[Said]:
    """Kinds of the Gateway API that are served in old versions only."""
    for item in world.all("CustomResourceDefinition"):
        spec = item["spec"]
        kind = (spec.get("names") or {}).get("kind")
        if spec.get("group") == "gateway.networking.k8s.io" and kind in ("Gateway", "GatewayClass", "HTTPRoute"):
            served = sorted(one.get("name") or "" for one in spec.get("versions") or [] if one.get("served"))
            if "v1" not in served:
                yield Said(item, "IST0156", (",".join(served) or "none", "v1"))


def deprecations(world: World) -> Iterator[Said]:
    """What today's Istio no longer plays."""
    for item in world.all("VirtualService"):
        for rule in item["spec"].get("http") or []:
            if (((rule.get("fault") or {}).get("delay") or {}).get("percent") or 0) > 0:
                words = "HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage"
                yield Said(item, "IST0002", (words,))
    for item in world.all("Sidecar"):
        if (item["spec"].get("outboundTrafficPolicy") or {}).get("egressProxy") is not None:
            yield Said(item, "IST0002", ("OutboundTrafficPolicy.EgressProxy ignored",))
    for item in world.all("CustomResourceDefinition"):
        kind = (item["spec"].get("names") or {}).get("kind")
        known = ("ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding")
        if item["spec"].get("group") == "rbac.istio.io" and kind in known:
            yield Said(item, "IST0002", (f"Custom resource type rbac.istio.io {kind} is removed",))
