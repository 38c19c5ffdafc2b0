"""VirtualServices that leave a part of their routes to others: resolved, so that the rest need not know of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.ground.hosts import fqdn
from meshbox.contracts import Obj

__all__ = ["resolved"]

Json = dict[str, Any]


def resolved(virtual_services: Iterable[Obj]) -> list[Obj]:
    """The VirtualServices with hosts, the routes of their delegates in place of each `delegate`."""
    everything = list(virtual_services)
    parts = {(v["metadata"]["namespace"], v["metadata"]["name"]): v for v in everything if not v["spec"].get("hosts")}
    return [_with_delegates(v, parts) for v in everything if v["spec"].get("hosts")]


def _with_delegates(root: Obj, parts: dict[tuple[str, str], Obj]) -> Obj:
    if not any(rule.get("delegate") for rule in root["spec"].get("http") or []):
        return root
    rules: list[Json] = []
    for rule in root["spec"]["http"]:
        delegate = rule.get("delegate")
        if not delegate:
            rules.append(rule)
            continue
        key = (delegate.get("namespace") or root["metadata"]["namespace"], delegate.get("name", ""))
        part = parts.get(key)
        for inner in (part["spec"].get("http") or []) if part else []:
            merged = _merged(rule, inner, key[0])
            if merged is not None:
                rules.append(merged)
    return {**root, "spec": {**root["spec"], "http": rules}}


def _merged(rule: Json, inner: Json, namespace: str) -> Json | None:
    """A delegate's rule under the conditions of the root's; None where the two contradict each other."""
    matches = [
        found
        for outer in rule.get("match") or [{}]
        for own in inner.get("match") or [{}]
        if (found := _match(outer, own)) is not None
    ]
    if not matches:
        return None
    kept = {key: value for key, value in rule.items() if key not in ("match", "delegate", "name")}
    merged = {**inner, **{key: value for key, value in kept.items() if key not in inner}}
    merged["name"] = "-".join(part for part in (rule.get("name"), inner.get("name")) if part)
    merged["match"] = [m for m in matches if m]
    merged["route"] = [_in_namespace(target, namespace) for target in inner.get("route") or []]
    return {key: value for key, value in merged.items() if value not in ("", [])}


def _match(outer: Json, own: Json) -> Json | None:
    found = {**outer, **own}
    for key in outer.keys() & own.keys():
        if key in ("headers", "withoutHeaders", "queryParams", "sourceLabels"):
            found[key] = {**own[key], **outer[key]}
        elif key == "uri":
            prefix, path = outer["uri"].get("prefix"), own["uri"].get("prefix") or own["uri"].get("exact") or ""
            if prefix is None or not path.startswith(prefix):
                return None
        elif outer[key] != own[key] and key != "name":
            return None
    return found


def _in_namespace(target: Json, namespace: str) -> Json:
    """A short host means a Service beside the delegate, wherever the root is."""
    where = target.get("destination") or {}
    host = where.get("host", "")
    if "." in host or not host:
        return target
    return {**target, "destination": {**where, "host": fqdn(host, namespace)}}
