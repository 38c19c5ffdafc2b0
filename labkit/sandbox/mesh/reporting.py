"""What a proxy reports: the mesh's settings, changed by the Telemetry objects that apply to its workload."""

from __future__ import annotations

from labkit.sandbox.mesh.model import Workload
from labkit.sandbox.mesh.snapshot import Snapshot
from labkit.sandbox.mesh.telemetry import Reporting

__all__ = ["reporting_of"]


def reporting_of(snapshot: Snapshot, workload: Workload) -> Reporting:
    """What the proxy of `workload` reports."""
    mesh = snapshot.mesh
    return Reporting(
        access_log=mesh.access_log,
        access_log_format=mesh.access_log_format,
        access_log_json=mesh.access_log_json,
        zipkin=mesh.tracing,
        sampling=mesh.sampling,
    )
