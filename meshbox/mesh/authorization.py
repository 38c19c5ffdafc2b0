# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicies as Envoy's filters.

For HTTP the rules are in the route table, where a change reaches connections that are open; for TCP in the filter
chain. Whoever is asked by a CUSTOM policy is asked first, before tokens are looked at; then what is denied is refused,
and then what is not allowed. A policy under `istio.io/dry-run` stands among the shadow rules, which only count and log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshbox.mesh import external_authorization as external
from meshbox.mesh.authorization_rules import Reading, policies_of_rules
from meshbox.mesh.envoy import Json, extension, typed
from meshbox.mesh.kinds import AUTHORIZATION_POLICIES
from meshbox.mesh.model import Port, Service, Workload, annotations_of
from meshbox.mesh.service_roles import role_rules
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy

__all__ = ["asking_filters", "dry_run", "judging_filters", "network_filters", "policies_of", "route_config"]


DENY_FILTER, ALLOW_FILTER = "istio.rbac.deny", "istio.rbac.allow"
"""Names of the two RBAC filters: denials are looked at first, whatever is allowed."""

_HTTP = "envoy.extensions.filters.http.rbac.v3.RBAC"
_PER_ROUTE = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
_NETWORK = "envoy.extensions.filters.network.rbac.v3.RBAC"
_DRY_RUN = "istio.io/dry-run"
_SHADOWS = {"DENY": "istio_dry_run_deny_", "ALLOW": "istio_dry_run_allow_"}
_FILTERS = (("DENY", DENY_FILTER), ("ALLOW", ALLOW_FILTER))


def policies_of(snapshot: Snapshot, workload: Workload) -> list[AuthorizationPolicy]:
    """The AuthorizationPolicies that apply to `workload`."""
    return [] if snapshot.legacy else snapshot.selected(AUTHORIZATION_POLICIES, workload)


def dry_run(policy: AuthorizationPolicy) -> bool:
    """Whether a policy is only to show what it would do."""
    return annotations_of(policy).get(_DRY_RUN, "") in ("1", "t", "T", "true", "True", "TRUE")


def _by_action(policies: Iterable[AuthorizationPolicy], action: str) -> list[AuthorizationPolicy]:
    return [p for p in policies if ((p.get("spec") or {}).get("action") or "ALLOW") == action]


def asking_filters(snapshot: Snapshot, workload: Workload) -> list[Json]:
    """The HTTP filters that ask somebody else: of CUSTOM policies."""
    custom = _by_action(policies_of(snapshot, workload), "CUSTOM")
    return external.http_filters(snapshot, custom) if custom else []


def judging_filters(snapshot: Snapshot, workload: Workload) -> list[Json]:
    """The HTTP filters that deny and allow; empty but for names, as their rules are in the routes."""
    if not any(dry_run(policy) for policy in policies_of(snapshot, workload)):
        return _PLAIN_FILTERS
    # Counters are called as the filter says, whatever the route does.
    return [extension(name, _HTTP, shadow_rules_stat_prefix=_SHADOWS[action]) for action, name in _FILTERS]


_PLAIN_FILTERS = [extension(name, _HTTP) for _, name in _FILTERS]


def route_config(snapshot: Snapshot, workload: Workload, owner: tuple[Service, Port] | None = None) -> Json:
    """The per-filter configuration of a route table; empty without policies.

    Args:
        snapshot: All objects.
        workload: The proxy's.
        owner: The Service and port behind the table; for the server's side.
    """
    found: Json = {}
    if snapshot.legacy:
        allowed = role_rules(snapshot, workload, owner, http=True)
        return {ALLOW_FILTER: typed(_PER_ROUTE, rbac=allowed)} if allowed else {}
    policies = policies_of(snapshot, workload)
    for action, name in _FILTERS:
        made = _rbac(snapshot, policies, action, http=True)
        if made:
            found[name] = typed(_PER_ROUTE, rbac=made)
    return found


def network_filters(snapshot: Snapshot, workload: Workload, owner: tuple[Service, Port] | None = None) -> list[Json]:
    """The filters of a TCP chain; `owner` as `route_config` knows it."""
    if snapshot.legacy:
        allowed = role_rules(snapshot, workload, owner, http=False)
        return [_network(allowed)] if allowed else []
    policies = policies_of(snapshot, workload)
    custom = _by_action(policies, "CUSTOM")
    found = external.network_filters(snapshot, custom) if custom else []
    for action, _ in _FILTERS:
        made = _rbac(snapshot, policies, action, http=False)
        if made:
            found.append(_network(made))
    return found


def _network(rbac: Json) -> Json:
    return extension("envoy.filters.network.rbac", _NETWORK, stat_prefix="tcp.", **rbac)


def _rbac(snapshot: Snapshot, policies: list[AuthorizationPolicy], action: str, *, http: bool) -> Json:
    """What one filter is told by the policies of one action."""
    chosen = _by_action(policies, action)
    reading = Reading(snapshot.plan, http, denies=action == "DENY", trust_domains=snapshot.mesh.trust_domains)
    enforced = [policy for policy in chosen if not dry_run(policy)]
    shadows = [policy for policy in chosen if dry_run(policy)]
    found: Json = {}
    if enforced:
        found["rules"] = {"action": action, "policies": policies_of_rules(enforced, reading)}
    if shadows:
        found["shadow_rules"] = {"action": action, "policies": policies_of_rules(shadows, reading)}
        found["shadow_rules_stat_prefix"] = _SHADOWS[action]
    return found
