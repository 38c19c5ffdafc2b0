# SPDX-License-Identifier: Apache-2.0
"""What of policies, TLS and tags is not played, or denies because it cannot be: in words for whoever wrote it.

Two kinds: what is plain from the object alone, said when it is applied, and what depends on all objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshbox.contracts import View
from meshbox.mesh.attachment import GATEWAY_API, target_refs
from meshbox.mesh.authorization import dry_run
from meshbox.mesh.external_authorization import provider_problem
from meshbox.mesh.jwt import is_text, key_source
from meshbox.mesh.key_sets import usable
from meshbox.mesh.kinds import (
    AUTHORIZATION_POLICIES,
    DESTINATION_RULES,
    GATEWAYS,
    MESH_POLICIES,
    POLICIES,
    REQUEST_AUTHENTICATIONS,
    TELEMETRIES,
    TRAFFIC_EXTENSIONS,
)
from meshbox.mesh.metric_overrides import unread
from meshbox.mesh.snapshot import Snapshot

__all__ = ["denying", "unplayed"]

_NO_BACKEND = (
    "action AUDIT enforces nothing, and no audit back-end writes down what it marks: as in Istio, that takes a plugin"
)
_FOR_GATEWAYS = (
    "sidecars leave out TLS for this rule; only gateways take a credentialName from a rule without workloadSelector"
)


def unplayed(resource: str, obj: View) -> Iterator[str]:
    """What an object asks for that is not played, as is plain from the object alone."""
    spec: View = obj.get("spec") or {}
    if resource in (AUTHORIZATION_POLICIES, REQUEST_AUTHENTICATIONS, TELEMETRIES, TRAFFIC_EXTENSIONS):
        yield from _targets(spec)
    if resource == TELEMETRIES:
        yield from unread(spec.get("metrics") or [])
    if resource == AUTHORIZATION_POLICIES:
        action = spec.get("action") or "ALLOW"
        if action == "AUDIT":
            yield _NO_BACKEND
        if action == "CUSTOM" and dry_run(obj):  # type: ignore[arg-type]
            yield "istio.io/dry-run has no effect with action CUSTOM: the policy is enforced"
    if resource == REQUEST_AUTHENTICATIONS:
        for rule in spec.get("jwtRules") or []:
            if isinstance(rule, dict) and not rule.get("jwks") and not key_source(rule):  # type: ignore[arg-type]
                of = rule.get("issuer") or "without a name"
                yield f"no keys are given for issuer {of} (jwks or jwksUri): its tokens are refused (401)"
            if isinstance(rule, dict) and rule.get("jwks") and not usable(str(rule["jwks"])):
                of = rule.get("issuer") or "without a name"
                yield f"jwks of issuer {of} holds no key by which tokens can be checked: its tokens are refused (401)"
            if isinstance(rule, dict) and not all(is_text(one) for one in _of_headers(rule)):
                yield "a header that breaks a line has no effect: there is none"
    if resource == DESTINATION_RULES and not spec.get("workloadSelector") and any(map(_named, _policies(spec))):
        yield _FOR_GATEWAYS
    if resource == GATEWAYS:
        yield from _lists_of_revoked(spec)
    if resource in (POLICIES, MESH_POLICIES):
        yield from _legacy(spec)


def _of_headers(rule: View) -> Iterator[str]:
    """What a rule about tokens says of headers."""
    yield str(rule.get("outputPayloadToHeader") or "")
    for header in rule.get("fromHeaders") or []:
        yield from (str((header or {}).get(key) or "") for key in ("name", "prefix"))


def _policies(rule: View) -> Iterator[View]:
    """Each traffic policy of a DestinationRule: its own, its subsets', and those for single ports."""
    for owner in (rule, *(rule.get("subsets") or [])):
        policy = (owner or {}).get("trafficPolicy") or {}
        yield policy
        yield from (one or {} for one in policy.get("portLevelSettings") or [])


def _named(policy: View) -> bool:
    """Whether a traffic policy originates TLS with a credential that it names."""
    tls = policy.get("tls") or {}
    return tls.get("mode") in ("SIMPLE", "MUTUAL") and bool(tls.get("credentialName"))


def _lists_of_revoked(gateway: View) -> Iterator[str]:
    for index, server in enumerate(gateway.get("servers") or []):
        tls = (server or {}).get("tls") or {}
        if not tls.get("caCrl"):
            continue
        if tls.get("mode") == "ISTIO_MUTUAL":
            yield f"servers[{index}].tls.caCrl has no effect with mode ISTIO_MUTUAL"
        elif tls.get("credentialName") or tls.get("credentialNames"):
            yield (
                f"servers[{index}].tls.caCrl has no effect beside credentialName: the Secret's own list (ca.crl) counts"
            )


def _targets(spec: View) -> Iterator[str]:
    for target in target_refs(spec):
        if not (target.get("group") == GATEWAY_API and target.get("kind") == "Gateway"):
            what = f"{target.get('kind') or 'target'} {target.get('name') or ''}".strip()
            yield f"targetRefs: {what} has no effect: sidecars ignore it, it is for waypoints, which are not played"


def _legacy(spec: View) -> Iterator[str]:
    for peer in spec.get("peers") or []:
        if (peer or {}).get("jwt") is not None:
            yield "peers: jwt proves no peer, as in Istio 1.2"
        if ((peer or {}).get("mtls") or {}).get("allowTls"):
            yield "peers: mtls.allowTls is not played: TLS without a client's certificate is refused"
    if spec.get("peerIsOptional") and spec.get("peers"):
        yield "peerIsOptional opens no port that peers close: plain text is refused under STRICT"
    for target in spec.get("targets") or []:
        if (target or {}).get("labels"):
            yield "targets: labels are not looked at: the Policy is for all pods of the Service"
    origins: list[Any] = spec.get("origins") or []
    for origin in origins:
        jwt = (origin or {}).get("jwt") or {}
        triggers = jwt.get("triggerRules") or jwt.get("trigger_rules") or []
        if triggers and (len(origins) > 1 or len(triggers) > 1):
            yield "origins: of several origins or triggerRules none is told apart by path: all ask for tokens"


def denying(snapshot: Snapshot) -> Iterator[tuple[View, str]]:
    """Each policy that refuses all that it is about, since what it asks for cannot be had, and why."""
    if snapshot.legacy:
        return
    asking = [p for p in snapshot.all(AUTHORIZATION_POLICIES) if (p.get("spec") or {}).get("action") == "CUSTOM"]
    found = {id(policy): (policy, provider_problem(snapshot, [policy])) for policy in asking}
    if len({((p.get("spec") or {}).get("provider") or {}).get("name") for p in asking}) > 1:
        for workload in snapshot.workloads.values():
            together = [p for p in snapshot.selected(AUTHORIZATION_POLICIES, workload) if id(p) in found]
            problem = provider_problem(snapshot, together) if workload.proxy and len(together) > 1 else ""
            found |= {id(p): (p, problem) for p in together if problem and not found[id(p)][1]}
    for policy, problem in found.values():
        if problem:
            yield policy, f"all that its rules match is denied (403), since nobody can be asked: {problem}"
