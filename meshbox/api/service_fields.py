# SPDX-License-Identifier: Apache-2.0
"""Fields of a Service that hang on its type: kept where a client leaves them out, dropped where the type has none."""

from __future__ import annotations

from collections.abc import Callable

from meshbox.contracts import Obj

__all__ = ["carry", "is_reached"]


def _has_address(spec: Obj) -> bool:
    return spec.get("type") != "ExternalName"


def _has_node_ports(spec: Obj) -> bool:
    allocated = spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort" or (spec.get("type") == "LoadBalancer" and allocated)


def _may_have_node_ports(spec: Obj) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _is_balanced(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer"


def is_reached(spec: Obj) -> bool:
    """Whether it is reached from outside, so that how its traffic is led means something."""
    kind = spec.get("type")
    return kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def _has_health_check(spec: Obj) -> bool:
    return _is_balanced(spec) and spec.get("externalTrafficPolicy") == "Local"


_FIELDS: tuple[tuple[tuple[str, ...], Callable[[Obj], bool]], ...] = (
    (("clusterIP", "clusterIPs"), _has_address),
    (("ipFamilies",), _has_address),
    (("ipFamilyPolicy",), _has_address),
    (("internalTrafficPolicy",), _has_address),
    (("healthCheckNodePort",), _has_health_check),
    (("allocateLoadBalancerNodePorts",), _is_balanced),
    (("loadBalancerClass",), _is_balanced),
    (("externalTrafficPolicy",), is_reached),
)
"""Fields that go together, and when a Service has them."""


def carry(spec: Obj, before: Obj) -> None:
    """Settle what hangs on the type, as the server does before it looks for what is wrong; in place.

    A field that the new type does not have goes, unless the client has just given it another value: that is an error,
    which is found later. What was given out once stays where the client says nothing of it.

    Args:
        spec: What the Service is to be, with its defaults.
        before: What it is.
    """
    if _has_address(before) and _has_address(spec):
        for field in ("clusterIP", "healthCheckNodePort"):
            if not spec.get(field) and before.get(field) and (field == "clusterIP" or _has_health_check(spec)):
                spec[field] = before[field]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP") and before.get("clusterIPs"):
            spec["clusterIPs"] = before["clusterIPs"]
    if _has_node_ports(before) and _has_node_ports(spec):
        _keep_node_ports(spec, before)
    for fields, wanted in _FIELDS:
        if wanted(before) and not wanted(spec) and all(spec.get(one) == before.get(one) for one in fields):
            for one in fields:
                spec.pop(one, None)
    if _may_have_node_ports(before) and not _may_have_node_ports(spec) and _node_ports(spec) <= _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)


def _node_ports(spec: Obj) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _keep_node_ports(spec: Obj, before: Obj) -> None:
    """A port of the same name keeps its own, whatever else of it is new, unless the client moves that elsewhere."""
    held = {port.get("name") or "": port.get("nodePort") for port in before.get("ports") or ()}
    given = _node_ports(spec)
    for port in spec.get("ports") or ():
        kept = held.get(port.get("name") or "")
        if not port.get("nodePort") and kept and kept not in given:
            port["nodePort"] = kept
