# SPDX-License-Identifier: Apache-2.0
"""What learners are told of Telemetry objects that name providers nobody has, or that are not played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshbox.contracts import Objects, View
from meshbox.mesh.kinds import TELEMETRIES
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.providers import takers, unheard
from meshbox.mesh.reporting import served
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.tracing import collector_of

__all__ = ["telemetry_warnings", "unheard_telemetries"]

_NOTHING = {
    "accessLogging": "nothing is logged",
    "metrics": "nothing is counted",
    "tracing": "no spans are sent",
}


def telemetry_warnings(objects: Objects, obj: View) -> list[str]:
    """What nothing comes of in a Telemetry object that somebody writes, by the settings that the mesh has now."""
    mesh = MeshConfig.now(objects, legacy=False)
    return [f"{where}: {why}: {_NOTHING[section]}" for section, where, why in _unheard(obj, mesh.providers)]


def unheard_telemetries(snapshot: Snapshot) -> Iterator[tuple[View, str]]:
    """Each Telemetry object of which something comes to nothing, and why."""
    providers = snapshot.mesh.providers
    for obj in () if snapshot.legacy else snapshot.all(TELEMETRIES):
        found = list(_unheard(obj, providers)) + list(_nowhere(obj, snapshot))
        if found:
            yield obj, "; ".join(f"{where}: {why}: {_NOTHING[section]}" for section, where, why in found)


def _named(obj: View) -> Iterator[tuple[str, str, str]]:
    """The sections, where each names a provider, and which."""
    for section in _NOTHING:
        for index, one in enumerate((obj.get("spec") or {}).get(section) or []):
            for place, provider in enumerate((one or {}).get("providers") or []):
                where = f"spec.{section}[{index}].providers[{place}].name"
                yield section, where, str((provider or {}).get("name") or "")


def _unheard(obj: View, providers: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for section, where, name in _named(obj):
        if why := unheard(section, name, providers):
            yield section, where, why


def _nowhere(obj: View, snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    known = takers("tracing", snapshot.mesh.providers)
    for section, where, name in _named(obj):
        collector = collector_of(known.get(name.lower()) or {}) if section == "tracing" else None
        if collector is not None and not served(snapshot, collector):
            yield section, where, f"provider {name!r} sends to {collector.where}, and the mesh has no such Service"
