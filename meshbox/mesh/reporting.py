# SPDX-License-Identifier: Apache-2.0
"""What a proxy reports: the mesh's settings, changed by the Telemetry objects that apply to its workload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meshbox.mesh.kinds import TELEMETRIES
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.telemetry import Reporting
from meshbox.mesh.tracing import ZIPKIN, Collector, collector_of

if TYPE_CHECKING:
    from labkit.ground.typed.telemetry import Telemetry, TelemetrySpec, Tracing

__all__ = ["reporting_of"]


def reporting_of(snapshot: Snapshot, workload: Workload) -> Reporting:
    """What the proxy of `workload` reports."""
    mesh = snapshot.mesh
    found = Reporting(
        access_log=mesh.access_log,
        access_log_format=mesh.access_log_format,
        access_log_json=mesh.access_log_json,
        collector=Collector(ZIPKIN, mesh.zipkin) if mesh.tracing else None,
        sampling=mesh.sampling,
    )
    sampling, spans = workload.tracing
    if sampling >= 0.0:
        found = replace(found, sampling=sampling)
    if spans and not mesh.untraced:
        found = replace(found, collector=Collector(ZIPKIN, spans))
    if snapshot.legacy:
        return found
    for obj in _from_wide_to_narrow(snapshot, workload):
        found = _changed(found, obj.get("spec") or {}, snapshot)
    return found


def _from_wide_to_narrow(snapshot: Snapshot, workload: Workload) -> list[Telemetry]:
    """Mesh-wide first, then the namespace's, then the workload's own, which has the last word."""

    def width(obj: Telemetry) -> int:
        if ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels"):
            return 2
        return 0 if obj["metadata"]["namespace"] == snapshot.mesh.root_namespace else 1

    return sorted(snapshot.selected(TELEMETRIES, workload), key=width)


def _changed(found: Reporting, spec: TelemetrySpec, snapshot: Snapshot) -> Reporting:
    for tracing in spec.get("tracing") or []:
        found = _traced(found, tracing or {}, snapshot)
    for logging in spec.get("accessLogging") or []:
        found = replace(found, access_log=not (logging or {}).get("disabled"))
    for metrics in spec.get("metrics") or []:
        for override in (metrics or {}).get("overrides") or []:
            match = (override or {}).get("match") or {}
            everything = match.get("metric", "ALL_METRICS") == "ALL_METRICS" and not match.get("customMetric")
            if everything and "disabled" in override and not override.get("tagOverrides"):
                found = replace(found, metrics=not override["disabled"])
    return found


def _traced(found: Reporting, tracing: Tracing, snapshot: Snapshot) -> Reporting:
    if tracing.get("providers"):
        provider = snapshot.mesh.providers.get(tracing["providers"][0].get("name", ""))
        found = replace(found, collector=collector_of(provider or {}))
    if "randomSamplingPercentage" in tracing:
        found = replace(found, sampling=float(tracing["randomSamplingPercentage"] or 0.0))
    if "disableSpanReporting" in tracing:
        found = replace(found, collector=None if tracing["disableSpanReporting"] else found.collector)
    tags = {
        name: str(tag["literal"].get("value", ""))
        for name, tag in (tracing.get("customTags") or {}).items()
        if (tag or {}).get("literal")
    }
    return replace(found, tags=tuple(sorted({**dict(found.tags), **tags}.items())))
