# SPDX-License-Identifier: Apache-2.0
"""TrafficExtensions: Lua that runs in a proxy's HTTP filters. What else they may bring (WebAssembly) is not played."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.kinds import TRAFFIC_EXTENSIONS

if TYPE_CHECKING:
    from meshbox.contracts import View
    from meshbox.mesh.model import Workload
    from meshbox.mesh.snapshot import Snapshot

__all__ = ["LATE", "lua_of", "phased"]

LATE = ""
"""The place of those that name no phase: right before faults and the router."""

_PHASES = frozenset({"AUTHN", "AUTHZ", "STATS"})


def lua_of(snapshot: Snapshot, workload: Workload) -> tuple[View, ...]:
    """The TrafficExtensions with Lua that apply to a proxy, in the order in which they run."""
    found = [one for one in snapshot.selected(TRAFFIC_EXTENSIONS, workload) if (one.get("spec") or {}).get("lua")]
    return tuple(sorted(found, key=_rank))


def _rank(one: View) -> tuple[int, str, str]:
    meta = one["metadata"]
    return (
        -int(one["spec"].get("priority") or 0),
        str(meta.get("creationTimestamp", "")),
        f"{meta['name']}.{meta['namespace']}",
    )


def phased(chosen: tuple[View, ...], *, inbound: int | None) -> dict[str, list[Json]]:
    """The filters of one connection manager, by phase.

    Args:
        chosen: As `lua_of` gives them.
        inbound: The application's port before which it stands; None for what a proxy sends out, gateways included.
    """
    found: dict[str, list[Json]] = {}
    for one in chosen:
        spec, meta = one["spec"], one["metadata"]
        matches = spec.get("match") or []
        if not matches or any(_meant(match, inbound) for match in matches):
            name = f"extensions.istio.io/trafficextension/{meta['namespace']}.{meta['name']}"
            code = {"inline_string": spec["lua"]["inlineCode"]}
            made = extension(name, "envoy.extensions.filters.http.lua.v3.Lua", default_source_code=code)
            phase = spec.get("phase")
            found.setdefault(phase if phase in _PHASES else LATE, []).append(made)
    return found


def _meant(match: Json, inbound: int | None) -> bool:
    if match.get("mode") == ("SERVER" if inbound is None else "CLIENT"):
        return False
    # A manager for what goes out serves many ports.
    ports = {port.get("number") for port in match.get("ports") or []}
    return not ports or inbound in ports
