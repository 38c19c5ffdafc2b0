# SPDX-License-Identifier: Apache-2.0
"""Of which objects the configuration was made that an Envoy refused, and why it did."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from labkit.ground.hosts import fqdn, within
from labkit.ground.labels import selects
from labkit.ground.routing import destinations, rule_host
from meshbox.contracts import View
from meshbox.mesh.credentials import secret_of
from meshbox.mesh.envoy import Json, made_by
from meshbox.mesh.gateway_servers import served_gateways
from meshbox.mesh.kinds import (
    AUTHORIZATION_POLICIES,
    DESTINATION_RULES,
    GATEWAYS,
    MESH_POLICIES,
    PEER_AUTHENTICATIONS,
    POLICIES,
    REQUEST_AUTHENTICATIONS,
    SECRETS,
    SERVICE_ENTRIES,
    SERVICES,
    SIDECARS,
    TELEMETRIES,
    TRAFFIC_EXTENSIONS,
    VIRTUAL_SERVICES,
    Kind,
)
from meshbox.mesh.model import Workload
from meshbox.mesh.secrets import credential
from meshbox.mesh.snapshot import Snapshot

__all__ = ["in_a_line", "ingredients", "named"]

_FEW = 3
"""Objects that one event names at most."""

_LONGEST = 400
"""Characters of a reason in an event: Envoy may show a whole message in it, which its log has as well."""

_FOR_A_LISTENER: tuple[Kind[Any], ...] = (
    PEER_AUTHENTICATIONS,
    POLICIES,
    MESH_POLICIES,
    REQUEST_AUTHENTICATIONS,
    TELEMETRIES,
    SIDECARS,
    TRAFFIC_EXTENSIONS,
)


def ingredients(snapshot: Snapshot, workload: Workload, what: str, resource: bytes) -> Iterator[tuple[str, View]]:
    """The objects in a resource that a proxy refused, each with the name of its kind's resource.

    Args:
        snapshot: All objects, as they were when it was made.
        workload: Whose proxy refused it.
        what: Its kind and its name, such as "listeners 0.0.0.0_80".
        resource: The resource; nothing where the proxy would not let it go.
    """
    kind, _, name = what.partition(" ")
    if kind == "secrets":
        place = secret_of(name, workload.namespace)
        found = credential(snapshot.secrets, place[0], place[1], roots=place[2]) if place else None
        if found is not None:
            yield SECRETS, found
        return
    made: list[Json] = [json.loads(resource)] if resource else []
    texts = {text for one in made for text in _texts(one)}
    for obj in snapshot.all(VIRTUAL_SERVICES):
        meta = obj["metadata"]
        if made_by("virtual-service", meta["namespace"], meta["name"], legacy=snapshot.legacy) in texts:
            yield VIRTUAL_SERVICES, obj
    for policy in snapshot.all(AUTHORIZATION_POLICIES):
        mark = "ns[{namespace}]-policy[{name}]-".format(**policy["metadata"])
        if any(text.startswith(mark) for text in texts):
            yield AUTHORIZATION_POLICIES, policy
    if kind in ("clusters", "endpoints"):
        yield from _of_hosts(snapshot, {str(one.get("name") or one["cluster_name"]).rpartition("|")[2] for one in made})
    elif workload.proxy == "router":
        yield from _of_gateways(snapshot, workload, {str(one["name"]) for one in made})
    if kind == "listeners":
        hosts = {text.rpartition("|")[2] for text in texts if text.startswith("outbound|")}
        for obj in snapshot.all(VIRTUAL_SERVICES):
            spec = obj.get("spec") or {}
            if (spec.get("tcp") or spec.get("tls")) and any(target.host in hosts for target in destinations(obj)):
                yield VIRTUAL_SERVICES, obj
        for kind_of in _FOR_A_LISTENER:
            yield from ((kind_of, obj) for obj in snapshot.all(kind_of) if _applies(snapshot, obj, workload))


def in_a_line(reason: str) -> str:
    """An Envoy's reason as part of a sentence."""
    found = " ".join(reason.split())
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}... (the rest is in its log, -c istio-proxy)"


def named(found: Iterable[tuple[str, View]], recent: Collection[str]) -> dict[str, View]:
    """The objects that a refusal is told of, by "RESOURCE NAMESPACE/NAME": those that changed last, if any did.

    Args:
        found: Objects with their resources.
        recent: What changed last, in the same form.
    """
    names = {
        f"{resource.partition('.')[0]} {obj['metadata'].get('namespace') or ''}/{obj['metadata']['name']}": obj
        for resource, obj in found
    }
    chosen = {name: obj for name, obj in names.items() if name in recent} or names
    return dict(list(chosen.items())[:_FEW])


def _of_hosts(snapshot: Snapshot, hosts: set[str]) -> Iterator[tuple[str, View]]:
    """What clusters for these hosts are made of."""
    for rule in snapshot.all(DESTINATION_RULES):
        if any(within(host, rule_host(rule)) for host in hosts):
            yield DESTINATION_RULES, rule
    for entry in snapshot.all(SERVICE_ENTRIES):
        if hosts & {host.lower() for host in (entry.get("spec") or {}).get("hosts") or []}:
            yield SERVICE_ENTRIES, entry
    for service in snapshot.all(SERVICES):
        meta = service["metadata"]
        if fqdn(meta["name"], meta["namespace"]) in hosts:
            yield SERVICES, service


def _of_gateways(snapshot: Snapshot, workload: Workload, names: set[str]) -> Iterator[tuple[str, View]]:
    """The Gateways whose servers have these listeners or route tables."""
    seen: set[int] = set()
    for server in served_gateways(snapshot, workload):
        if names & {server.listener, server.table} and id(server.gateway) not in seen:
            seen.add(id(server.gateway))
            yield GATEWAYS, server.gateway


def _applies(snapshot: Snapshot, obj: View, workload: Workload) -> bool:
    spec, namespace = obj.get("spec") or {}, obj["metadata"].get("namespace") or snapshot.mesh.root_namespace
    selector = spec.get("selector") or spec.get("workloadSelector") or {}
    wanted = selector.get("matchLabels") or selector.get("labels") or {}
    return namespace in (workload.namespace, snapshot.mesh.root_namespace) and selects(wanted, workload.labels)


def _texts(value: object) -> Iterator[str]:
    """Every text and every key in a part of a configuration: policies are keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
