# SPDX-License-Identifier: Apache-2.0
"""Who may call whom in Istio 1.2: ClusterRbacConfig, ServiceRole and ServiceRoleBinding.

Where access control is on for a Service, nothing is allowed but what a role of its namespace grants to a subject that
a binding names. A role granted to a subject is read as today's rule with the same meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.ground.labels import selects
from meshbox.contracts import View
from meshbox.mesh.authorization_rules import Reading, policies_of_rules
from meshbox.mesh.envoy import Json
from meshbox.mesh.kinds import CLUSTER_RBAC_CONFIGS, RBAC_CONFIGS, SERVICE_ROLE_BINDINGS, SERVICE_ROLES
from meshbox.mesh.model import Port, Service, Workload
from meshbox.mesh.security import effective_policy
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy, Condition, Operation, Rule, Source

__all__ = ["role_rules"]

_PERMISSIVE = "PERMISSIVE"
_SHADOWS = "istio_rbac_permissive_"
_OPERATION = ("hosts", "paths", "methods", "ports")
_OF_SERVICE = ("destination.name", "destination.namespace", "destination.user")
_LABELS = "destination.labels["


def role_rules(snapshot: Snapshot, workload: Workload, owner: tuple[Service, Port] | None, *, http: bool) -> Json:
    """What Envoy's RBAC filter before a Service's port is told; empty where access control is off for it."""
    if owner is None:
        return {}
    service = owner[0]
    config = _config(snapshot)
    if not _is_on(config, service):
        return {}
    enforced: list[AuthorizationPolicy] = []
    shadows: list[AuthorizationPolicy] = []
    for name, permissive, rule in _grants(snapshot, workload, owner):
        made: AuthorizationPolicy = {
            "metadata": {"name": name, "namespace": service.namespace},
            "spec": {"rules": [rule]},
        }
        shadows.append(made)
        if not permissive:
            enforced.append(made)
    reading = Reading(snapshot.plan, http, denies=False, legacy=True)
    found: Json = {}
    if str(config.get("enforcement_mode") or config.get("enforcementMode") or "") != _PERMISSIVE:
        found["rules"] = {"action": "ALLOW", "policies": policies_of_rules(enforced, reading)}
    if not found or len(shadows) > len(enforced):
        found["shadow_rules"] = {"action": "ALLOW", "policies": policies_of_rules(shadows, reading)}
        found["shadow_rules_stat_prefix"] = _SHADOWS
    return found


def _config(snapshot: Snapshot) -> View:
    """The mesh's one setting; the older kind counts where there is none of the newer."""
    for kind in (CLUSTER_RBAC_CONFIGS, RBAC_CONFIGS):
        for obj in snapshot.all(kind):
            if obj["metadata"]["name"] == "default":
                spec: View = obj.get("spec") or {}
                return spec
    return {}


def _is_on(config: View, service: Service) -> bool:
    def named(key: str) -> bool:
        target = config.get(key) or {}
        return service.host in (target.get("services") or []) or service.namespace in (target.get("namespaces") or [])

    mode = config.get("mode") or "OFF"
    if mode in ("ON_WITH_INCLUSION", 2):
        return named("inclusion")
    if mode in ("ON_WITH_EXCLUSION", 3):
        return not named("exclusion")
    return mode in ("ON", 1)


def _grants(snapshot: Snapshot, workload: Workload, owner: tuple[Service, Port]) -> Iterator[tuple[str, bool, Rule]]:
    """Each role's name, whether it is only tried out, and what it grants to one subject."""
    service = owner[0]
    target = next(iter(service.endpoints.get(owner[1].number, ())), None)
    policy = effective_policy(snapshot, workload, target.port if target else owner[1].number) or {}
    of_origin = policy.get("principalBinding") == "USE_ORIGIN"
    bindings = [b for b in snapshot.all(SERVICE_ROLE_BINDINGS) if b["metadata"]["namespace"] == service.namespace]
    for role in snapshot.all(SERVICE_ROLES):
        if role["metadata"]["namespace"] != service.namespace:
            continue
        name = role["metadata"]["name"]
        bound = [b.get("spec") or {} for b in bindings if _role_of(b.get("spec") or {}) == name]
        for index, access in enumerate((role.get("spec") or {}).get("rules") or []):
            if not _is_about(access or {}, workload, service):
                continue
            for number, binding in enumerate(bound):
                for place, subject in enumerate(binding.get("subjects") or []):
                    rule = _rule(access, subject or {}, of_origin=of_origin)
                    if rule is not None:
                        yield f"{name}-{index}-{number}-{place}", binding.get("mode") == _PERMISSIVE, rule


def _role_of(binding: View) -> str:
    reference = binding.get("roleRef") or {}
    kind = reference.get("kind") or "ServiceRole"
    return str(reference.get("name") or "") if kind == "ServiceRole" else str(binding.get("role") or "")


def _is_about(access: View, workload: Workload, service: Service) -> bool:
    """Whether a rule of a role speaks of a workload behind a Service."""
    services = access.get("services") or ["*"]
    if not any(_fits(str(pattern), service.host) for pattern in services):
        return False
    own = {
        "destination.name": workload.name,
        "destination.namespace": workload.namespace,
        "destination.user": workload.service_account,
    }
    for constraint in access.get("constraints") or []:
        key, values = str(constraint.get("key") or ""), [str(v) for v in constraint.get("values") or []]
        if key in own and not any(_fits(value, own[key]) for value in values):
            return False
        if key.startswith(_LABELS):
            label = key.removeprefix(_LABELS).removesuffix("]")
            if not any(selects({label: value}, workload.labels) for value in values):
                return False
    return True


def _fits(pattern: str, value: str) -> bool:
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _rule(access: View, subject: View, *, of_origin: bool) -> Rule | None:
    """What a rule of a role grants to a subject; None where the subject says nothing, and so is nobody."""
    operation: dict[str, Any] = {}
    for key in _OPERATION:
        refused = f"not{key.capitalize()}"
        for field, given in ((key, access.get(key)), (refused, access.get(refused) or access.get(f"not_{key}"))):
            if given and not (field == "methods" and "*" in given):
                operation[field] = [str(value) for value in given]
    when: list[Condition] = [
        {"key": str(c.get("key") or ""), "values": [str(v) for v in c.get("values") or []]}
        for c in access.get("constraints") or []
        if str(c.get("key") or "") not in _OF_SERVICE and not str(c.get("key") or "").startswith(_LABELS)
    ]
    source, known = _source(subject)
    properties = subject.get("properties") or {}
    for key, value in properties.items():
        # Without a word, what a call is made in the name of is the workload that makes it.
        name = "source.principal" if key == "request.auth.principal" and not of_origin else str(key)
        when.append({"key": name, "values": [str(value)]})
    groups, others = _both(subject, "groups")
    groups += [str(subject["group"])] if subject.get("group") else []
    for values, field in ((groups, "values"), (others, "notValues")):
        if values:
            when.append({"key": "request.auth.claims[groups]", field: values})  # type: ignore[misc]
    if not (known or properties or groups or others):
        return None
    rule: Rule = {}
    if source:
        rule["from"] = [{"source": source}]
    if operation:
        made: Operation = operation  # type: ignore[assignment]
        rule["to"] = [{"operation": made}]
    if when:
        rule["when"] = when
    return rule


def _source(subject: View) -> tuple[Source, bool]:
    """Whom a subject names, and whether it names anybody: user "*" is everybody, with an identity or without."""
    source: Source = {}
    names, others = _both(subject, "names")
    user = str(subject.get("user") or "")
    everybody = user == "*"
    if user and not everybody:
        names.append(user)
    if names:
        source["principals"] = names
    if others:
        source["notPrincipals"] = others
    for key, wanted, unwanted in (
        ("namespaces", "namespaces", "notNamespaces"),
        ("ips", "ipBlocks", "notIpBlocks"),
    ):
        asked, refused = _both(subject, key)
        if asked:
            source[wanted] = asked  # type: ignore[literal-required]
        if refused:
            source[unwanted] = refused  # type: ignore[literal-required]
    return source, everybody or bool(source)


def _both(subject: View, key: str) -> tuple[list[str], list[str]]:
    """What a subject asks for under a key, and what it rules out."""
    refused = subject.get(f"not{key.capitalize()}") or subject.get(f"not_{key}") or []
    return [str(v) for v in subject.get(key) or []], [str(v) for v in refused]
