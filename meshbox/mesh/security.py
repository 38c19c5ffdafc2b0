# SPDX-License-Identifier: Apache-2.0
"""Who may speak to a workload in plain text: PeerAuthentication today, Policy and MeshPolicy in Istio 1.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from meshbox.mesh.kinds import MESH_POLICIES, PEER_AUTHENTICATIONS, POLICIES
from meshbox.mesh.model import Service, Workload
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import PeerAuthenticationSpec, PolicySpec, TargetSelector

__all__ = ["effective_policy", "mtls_mode"]

PERMISSIVE, STRICT, DISABLE = "PERMISSIVE", "STRICT", "DISABLE"


def mtls_mode(snapshot: Snapshot, workload: Workload, port: int) -> str:
    """PERMISSIVE, STRICT or DISABLE for the application's `port` of `workload`."""
    known = snapshot.modes.get((workload, port))
    if known is None:
        known = (_legacy if snapshot.legacy else _current)(snapshot, workload, port)
        snapshot.modes[workload, port] = known
    return known


def _current(snapshot: Snapshot, workload: Workload, port: int) -> str:
    root = snapshot.mesh.root_namespace
    modes: dict[str, PeerAuthenticationSpec] = {}
    for obj in snapshot.all(PEER_AUTHENTICATIONS):
        spec, namespace = obj.get("spec") or {}, obj["metadata"]["namespace"]
        wanted = (spec.get("selector") or {}).get("matchLabels")
        if wanted:
            if namespace == workload.namespace and selects(wanted, workload.labels):
                modes.setdefault("workload", spec)
        elif namespace == workload.namespace:
            modes.setdefault("namespace", spec)
        elif namespace == root:
            modes.setdefault("mesh", spec)
        if namespace == root and not wanted:
            modes.setdefault("mesh", spec)
    levels = modes.get("workload", {}).get("portLevelMtls") or {}
    # JSON object keys are strings.
    for candidate in (
        (levels.get(str(port)) or {}),
        *((modes.get(k, {}).get("mtls") or {}) for k in ("workload", "namespace", "mesh")),
    ):
        mode = candidate.get("mode")
        if mode and mode != "UNSET":
            return str(mode)
    return PERMISSIVE


def _legacy(snapshot: Snapshot, workload: Workload, port: int) -> str:
    policy = effective_policy(snapshot, workload, port)
    # The demo profile's own MeshPolicy says the same; it is made by a Job that may not have run yet.
    return PERMISSIVE if policy is None else _peers_mode(policy)


def effective_policy(snapshot: Snapshot, workload: Workload, port: int | None) -> PolicySpec | None:
    """The one Policy of Istio 1.2 that counts for the application's `port` of `workload` (None: for any of them).

    A Policy for a Service is before its namespace's, and that before the mesh's.
    """
    services = snapshot.services_of.get((workload.namespace, workload.pod), [])
    namespace_wide: PolicySpec | None = None
    for obj in snapshot.all(POLICIES):
        if obj["metadata"]["namespace"] != workload.namespace:
            continue
        spec = obj.get("spec") or {}
        targets = spec.get("targets") or []
        if not targets and obj["metadata"]["name"] == "default":
            namespace_wide = spec
        if any(_is_for(target, service, port) for target in targets for service in services):
            return spec
    if namespace_wide is not None:
        return namespace_wide
    return next((o.get("spec") or {} for o in snapshot.all(MESH_POLICIES) if o["metadata"]["name"] == "default"), None)


def _is_for(target: TargetSelector, service: Service, port: int | None) -> bool:
    if target.get("name") != service.name:
        return False
    ports = target.get("ports") or []
    numbers, names = [p.get("number") for p in ports], [p.get("name") for p in ports]
    return (
        not ports
        or port is None
        or any(
            p.number in numbers or p.name in names
            for p in service.ports
            if any(endpoint.port == port for endpoint in service.endpoints.get(p.number, ()))
        )
    )


def _peers_mode(spec: PolicySpec) -> str:
    for peer in spec.get("peers") or []:
        if "mtls" in peer:
            # `mtls: {}` and a bare `mtls:` both mean STRICT, the zero value of its mode.
            return PERMISSIVE if (peer["mtls"] or {}).get("mode") == PERMISSIVE else STRICT
    return DISABLE
