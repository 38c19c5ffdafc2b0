# SPDX-License-Identifier: Apache-2.0
"""Who may speak to a workload in plain text: PeerAuthentication today, Policy and MeshPolicy in Istio 1.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from meshbox.mesh.kinds import MESH_POLICIES, PEER_AUTHENTICATIONS, POLICIES
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import PeerAuthenticationSpec, PolicySpec

__all__ = ["mtls_mode"]

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
    services = snapshot.services_of.get((workload.namespace, workload.pod), [])
    namespace_wide: PolicySpec | None = None
    for obj in snapshot.all(POLICIES):
        if obj["metadata"]["namespace"] != workload.namespace:
            continue
        spec = obj.get("spec") or {}
        targets = spec.get("targets") or []
        if not targets and obj["metadata"]["name"] == "default":
            namespace_wide = spec
        for target in targets:
            for service in services:
                ports = target.get("ports") or []
                numbers = [p.get("number") for p in ports]
                names = [p.get("name") for p in ports]
                hit = any(
                    p.number in numbers or p.name in names
                    for p in service.ports
                    if any(e.port == port for e in service.endpoints.get(p.number, ()))
                )
                if target.get("name") == service.name and (not ports or hit):
                    return _peers_mode(spec)
    if namespace_wide is not None:
        return _peers_mode(namespace_wide)
    for obj in snapshot.all(MESH_POLICIES):
        if obj["metadata"]["name"] == "default":
            return _peers_mode(obj.get("spec") or {})
    # The demo profile's own MeshPolicy says the same; it is made by a Job that may not have run yet.
    return PERMISSIVE


def _peers_mode(spec: PolicySpec) -> str:
    for peer in spec.get("peers") or []:
        if "mtls" in peer:
            # `mtls: {}` and a bare `mtls:` both mean STRICT, the zero value of its mode.
            return PERMISSIVE if (peer["mtls"] or {}).get("mode") == PERMISSIVE else STRICT
    return DISABLE
