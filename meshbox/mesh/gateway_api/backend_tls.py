# SPDX-License-Identifier: Apache-2.0
"""BackendTLSPolicies as DestinationRules: TLS towards the servers behind a Service."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from meshbox.contracts import Obj, View
from meshbox.mesh.gateway_api.backends import name_of_service
from meshbox.mesh.gateway_api.classes import CONTROLLER
from meshbox.mesh.gateway_api.status import Condition, RouteStatus, conditions
from meshbox.mesh.gateway_api.tls import without_root
from meshbox.mesh.kinds import GATEWAY_API as GROUP
from meshbox.mesh.semantics import GATEWAY_API

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules as api

__all__ = ["Ancestor", "Targets", "backend_tls", "behind", "policy_status"]

MESH_CONTROLLER = "istio.io/mesh-controller"
NO_CERTIFICATE = "invalid://"
"""A credential that nobody can give: without the CA that a policy names no connection is made."""

_MOST = 16
"""How many ancestors a status has room for."""

_KINDS = {("", "Service"): "Service", ("networking.istio.io", "ServiceEntry"): "ServiceEntry"}
_VALID = (
    Condition("Accepted", "Accepted", "Configuration is valid"),
    Condition("ResolvedRefs", "ResolvedRefs", "Configuration is valid"),
)


class Ancestor(Struct, frozen=True):
    """What a policy's status says of one object that it holds for.

    Args:
        ref: The object.
        controller: Who says it.
        conditions: What.
    """

    ref: View
    controller: str
    conditions: tuple[Condition, ...]


class Targets(Struct, frozen=True):
    """What BackendTLSPolicies may name.

    Args:
        services: Kubernetes' Services.
        entries: ServiceEntries.
        config_maps: ConfigMaps, which hold CAs.
        gateways: Namespace and name of a Service → the Gateways, "namespace/name", whose routes lead there.
    """

    services: Collection[View]
    entries: Collection[View]
    config_maps: Collection[View]
    gateways: Mapping[tuple[str, str], Collection[str]]

    def find(self, kind: str, namespace: str, name: str) -> View | None:
        """The object of a kind that a policy may name."""
        among = {"Service": self.services, "ServiceEntry": self.entries, "ConfigMap": self.config_maps}[kind]
        wanted = (namespace, name)
        return next((one for one in among if (one["metadata"]["namespace"], one["metadata"]["name"]) == wanted), None)


def backend_tls(
    policies: Iterable[View], targets: Targets
) -> tuple[list[api.DestinationRule], dict[tuple[str, str], tuple[Ancestor, ...]]]:
    """The DestinationRules that play policies, and what each policy's status says, by its namespace and name."""
    by_host: dict[tuple[str, str], api.TrafficPolicy] = {}
    statuses: dict[tuple[str, str], tuple[Ancestor, ...]] = {}
    for policy in sorted(policies, key=_age):
        meta, spec = policy["metadata"], policy["spec"]
        namespace = str(meta["namespace"])
        credential, said = _credential(spec["validation"], namespace, targets)
        tls = _tls(spec["validation"], credential)
        ancestors: list[Ancestor] = []
        gateways: dict[str, tuple[Condition, ...]] = {}
        for ref in spec.get("targetRefs") or []:
            found, problem = _target(ref, namespace, targets)
            told = _changed(said, "Accepted", "TargetNotFound", problem) if problem else said
            for host, port in found:
                _hold(by_host.setdefault((namespace, host), {}), tls, port)
            if found:
                gateways |= dict.fromkeys(targets.gateways.get((namespace, str(ref["name"])), ()), told)
            named = {key: ref[key] for key in ("group", "kind", "name", "sectionName") if ref.get(key) is not None}
            ancestors.append(Ancestor(named, MESH_CONTROLLER, told))
        for gateway in sorted(gateways):
            where = {"group": GROUP, "kind": "Gateway", "name": gateway.partition("/")[2]}
            ancestors.append(Ancestor(where, CONTROLLER, gateways[gateway]))
        statuses[namespace, str(meta["name"])] = tuple(ancestors)
    return [_rule(namespace, host, policy) for (namespace, host), policy in by_host.items()], statuses


def behind(
    routes: Iterable[View], statuses: Mapping[tuple[str, str, str], RouteStatus]
) -> dict[tuple[str, str], set[str]]:
    """Namespace and name of a Service → the Gateways, "namespace/name", whose routes lead there."""
    found: dict[tuple[str, str], set[str]] = {}
    for route in routes:
        meta = route["metadata"]
        status = statuses.get((route["kind"], meta["namespace"], meta["name"]), RouteStatus())
        gateways = {place.rpartition("/")[0] for place in status.attached}
        for rule in route["spec"].get("rules") or []:
            for ref in rule.get("backendRefs") or []:
                where = str(ref.get("namespace") or meta["namespace"]), str(ref["name"])
                found.setdefault(where, set()).update(gateways)
    return found


def policy_status(policy: View, found: Iterable[Ancestor]) -> Obj:
    """The whole status of a policy: what other controllers say of it stays."""
    before = (policy.get("status") or {}).get("ancestors") or []
    generation = policy["metadata"].get("generation", 1)
    ancestors = [dict(one) for one in before if one.get("controllerName") not in (CONTROLLER, MESH_CONTROLLER)]
    for one in found:
        known: View = next((entry for entry in before if entry["ancestorRef"] == one.ref), {})
        said = conditions(one.conditions, known.get("conditions") or (), generation)
        ancestors.append({"ancestorRef": dict(one.ref), "controllerName": one.controller, "conditions": said})
    return {"ancestors": ancestors[:_MOST]}


def _age(policy: View) -> tuple[str, str, str]:
    meta = policy["metadata"]
    return meta.get("creationTimestamp") or "", meta["namespace"], meta["name"]


def _rule(namespace: str, host: str, policy: api.TrafficPolicy) -> api.DestinationRule:
    name = f"{host.partition('.')[0]}{GATEWAY_API}"
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"host": host, "trafficPolicy": policy}}


def _tls(validation: View, credential: str) -> api.ClientTLS:
    names = [str(entry.get("hostname") or entry.get("uri")) for entry in validation.get("subjectAltNames") or []]
    found: api.ClientTLS = {"mode": "SIMPLE", "sni": str(validation["hostname"])}
    # Whose certificate it must be istiod does not say unless the policy does; whoever writes it is warned.
    if names:
        found["subjectAltNames"] = names
    if credential:
        found["credentialName"] = credential
    return found


def _hold(policy: api.TrafficPolicy, tls: api.ClientTLS, port: int) -> None:
    """Let a policy hold for a host, or for one port of it; the oldest that speaks of it counts."""
    if not port:
        policy.setdefault("tls", tls)
        return
    levels = policy.setdefault("portLevelSettings", [])
    if all((level.get("port") or {}).get("number") != port for level in levels):
        levels.append({"port": {"number": port}, "tls": tls})


def _changed(said: Iterable[Condition], kind: str, reason: str, message: str) -> tuple[Condition, ...]:
    """Conditions of which one is false."""
    return tuple(
        replace(one, reason=reason, message=message, status=False) if one.type == kind else one for one in said
    )


def _target(ref: View, namespace: str, targets: Targets) -> tuple[list[tuple[str, int]], str]:
    """The hosts that a policy holds for, each with its port (0 for all), and why there are none."""
    kind, name, section = _KINDS.get((ref.get("group") or "", ref["kind"])), str(ref["name"]), ref.get("sectionName")
    if kind is None:
        return [], f"targetRefs invalid: unsupported kind {ref['kind']}"
    found = targets.find(kind, namespace, name)
    if found is None:
        return [], f"targetRefs invalid: reference {namespace}/{name} (of kind {ref['kind']}) not found"
    port = 0
    if section:
        ports = {str(one.get("name")): int(one.get("port") or one.get("number") or 0) for one in _ports(found)}
        if section not in ports:
            return [], f'targetRefs invalid: sectionName "{section}" does not exist in {kind} {namespace}/{name}'
        port = ports[section]
    if kind == "Service":
        return [(name_of_service(namespace, name), port)], ""
    return [(str(host).lower(), port) for host in found["spec"].get("hosts") or []], ""


def _ports(obj: View) -> Iterator[View]:
    yield from (obj.get("spec") or {}).get("ports") or []


def _credential(validation: View, namespace: str, targets: Targets) -> tuple[str, tuple[Condition, ...]]:
    """Where the CA is found that servers are verified with ("" for the machine's own list), and what is said of it."""
    known = validation.get("wellKnownCACertificates")
    if known:
        if known == "System":
            return "", _VALID
        return "", _changed(_VALID, "Accepted", "Invalid", f"Unknown wellKnownCACertificates: {known}")
    refs = validation.get("caCertificateRefs") or []
    if not refs:
        return "", _VALID
    ref, said = refs[0], _VALID
    if len(refs) > 1:
        words = "Configuration is valid; warning: only the first caCertificateRefs will be used"
        said = (replace(_VALID[0], message=words), _VALID[1])
    if (ref.get("group") or "", ref["kind"]) != ("", "ConfigMap"):
        known_kind = (ref.get("group") or "", ref["kind"]) in (("", "Service"), ("", "Secret"))
        problem = f"unsupported {'reference kind:' if known_kind else 'kind'} {ref['kind']}"
        told = f"Certificate reference {'invalid' if known_kind else 'not supported'}: {problem}"
        return NO_CERTIFICATE, _refused(said, "InvalidKind", told, problem)
    name = str(ref["name"])
    found = targets.find("ConfigMap", namespace, name)
    if found is None:
        problem = f"reference {namespace}/{name} (of kind ConfigMap) not found"
        told = f"Certificate reference not found: {problem}"
        return NO_CERTIFICATE, _refused(said, "InvalidCACertificateRef", told, problem)
    problem = without_root(found.get("data") or {})
    if problem:
        told = f"Certificate invalid: {problem}"
        return NO_CERTIFICATE, _refused(said, "InvalidCACertificateRef", told, problem)
    return f"configmap://{namespace}/{name}", said


def _refused(said: tuple[Condition, ...], reason: str, told: str, problem: str) -> tuple[Condition, ...]:
    found = _changed(said, "ResolvedRefs", reason, told)
    return _changed(found, "Accepted", "NoValidCACertificate", f"Certificate reference invalid: {problem}")
