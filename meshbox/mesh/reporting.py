# SPDX-License-Identifier: Apache-2.0
"""What a proxy reports: the mesh's settings, changed by the Telemetry objects that apply to its workload.

A sidecar has two sides, which may be told different things: the server's, before its application, and the client's.
A gateway is a client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from meshbox.mesh.kinds import TELEMETRIES
from meshbox.mesh.metric_overrides import merged
from meshbox.mesh.model import Workload
from meshbox.mesh.providers import ACCESS_LOG, takers
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.telemetry import STDOUT, FileLog, Reporting
from meshbox.mesh.tracing import ZIPKIN, Collector, SpanTag, collector_of

if TYPE_CHECKING:
    from labkit.ground.typed.telemetry import AccessLogging, Telemetry, TelemetrySpec, Tracing

__all__ = ["Reports", "reports_of", "served"]

_FILE = "envoy"
"""The provider that every mesh has without saying so: lines in the proxy's own log."""


class Reports(Struct, frozen=True):
    """What one proxy reports.

    Args:
        client: Of the calls that leave through it.
        server: Of those that arrive at its application.
    """

    client: Reporting
    server: Reporting


def reports_of(snapshot: Snapshot, workload: Workload) -> Reports:
    """What the proxy of `workload` reports."""
    mesh = snapshot.mesh
    found = Reporting(
        access_log=mesh.access_log,
        access_log_path=mesh.access_log_path,
        access_log_format=mesh.access_log_format,
        access_log_json=mesh.access_log_json,
        collector=Collector(ZIPKIN, mesh.zipkin) if mesh.tracing else None,
        sampling=mesh.sampling,
    )
    sampling, spans, tags = workload.tracing
    given = json.loads(tags or mesh.span_tags or "{}")
    found = replace(found, tags=_tags(given))
    if sampling >= 0.0:
        found = replace(found, sampling=sampling)
    if spans and not mesh.untraced:
        found = replace(found, collector=Collector(ZIPKIN, spans))
    if snapshot.legacy:
        return Reports(found, found)
    specs = [obj.get("spec") or {} for obj in _from_wide_to_narrow(snapshot, workload)]
    return Reports(*(_told(found, specs, mode, snapshot) for mode in ("CLIENT", "SERVER")))


def _from_wide_to_narrow(snapshot: Snapshot, workload: Workload) -> list[Telemetry]:
    """Mesh-wide first, then the namespace's, then the workload's own, which has the last word.

    Of several for a whole namespace the oldest alone counts, as in Istio.
    """
    found: list[list[Telemetry]] = [[], [], []]
    for obj in sorted(snapshot.selected(TELEMETRIES, workload), key=_age):
        spec = obj.get("spec") or {}
        own = (spec.get("selector") or {}).get("matchLabels") or spec.get("targetRef") or spec.get("targetRefs")
        wide = obj["metadata"]["namespace"] == snapshot.mesh.root_namespace
        found[2 if own else 0 if wide else 1].append(obj)
    return [*found[0][:1], *found[1][:1], *found[2]]


def _age(obj: Telemetry) -> tuple[str, str, str]:
    meta = obj["metadata"]
    return str(meta.get("creationTimestamp") or ""), meta["name"], meta["namespace"]


def _told(found: Reporting, specs: Sequence[TelemetrySpec], mode: str, snapshot: Snapshot) -> Reporting:
    defaults = snapshot.mesh.default_providers
    levels = [[one or {} for one in logging] for spec in specs if (logging := spec.get("accessLogging"))]
    found = _logged(found, levels, mode, defaults.get("accessLogging", ()), snapshot)
    metrics = [one or {} for spec in specs for one in spec.get("metrics") or []]
    if metrics:
        taken = takers("metrics", snapshot.mesh.providers)
        changed = merged(metrics, mode, defaults.get("metrics", ("prometheus",)), taken)
        found = replace(found, metrics=changed is not None, overrides=tuple(sorted((changed or {}).items())))
    tracings = [one or {} for spec in specs for one in spec.get("tracing") or []]
    return _traced(found, tracings, mode, snapshot) if tracings or defaults.get("tracing") else found


def _logged(
    found: Reporting,
    levels: Sequence[list[AccessLogging]],
    mode: str,
    default_providers: Sequence[str],
    snapshot: Snapshot,
) -> Reporting:
    """As in Istio: where no provider is meant, neither here nor further out, nothing is said, and the mesh's own
    settings hold. A level that names providers takes the place of those before it.
    """
    if not levels and not default_providers:
        return found
    default_providers = [name.lower() for name in default_providers]
    counting, filters = list(default_providers), dict[str, str]()
    for level in levels:
        fitting = [one for one in level if _fits(one.get("match"), mode)]
        for one in fitting:
            expression = (one.get("filter") or {}).get("expression") or ""
            filters.update(dict.fromkeys(_names(one), expression))
        counting = [name for one in fitting for name in _names(one)] or counting
    current = list(default_providers)
    said = {} if levels else dict.fromkeys(current, True)
    for one in (one for level in levels for one in level):
        current = _names(one) or current
        if _fits(one.get("match"), mode):
            said |= {name: not one.get("disabled") for name in current if name in counting}
    if not said:
        return found
    built_in = _FILE not in map(str.lower, snapshot.mesh.providers)
    files = tuple(
        FileLog.of(provider[ACCESS_LOG], filters.get(name, ""))
        for name, provider in takers("accessLogging", snapshot.mesh.providers).items()
        if said.get(name) and not (built_in and name == _FILE)
    )
    own = built_in and said.get(_FILE, False)
    found = replace(found, access_log=own, access_log_path=STDOUT, files=files)
    return replace(found, access_log_filter=filters.get(_FILE, "") if built_in else "")


def _traced(found: Reporting, tracings: Sequence[Tracing], mode: str, snapshot: Snapshot) -> Reporting:
    mesh = snapshot.mesh
    provider = next(iter(mesh.default_providers.get("tracing", ())), "").lower()
    silent, own = False, found.tags
    for one in tracings:
        if not _fits(one.get("match"), mode):
            continue
        provider = next(iter(_names(one)), provider)
        if one.get("disableSpanReporting") is not None:
            silent = bool(one["disableSpanReporting"])
        if (sampling := one.get("randomSamplingPercentage")) is not None:
            found = replace(found, sampling=float(sampling))
        if one.get("customTags") is not None:
            # Where none is given, those of the proxy's own settings hold, as in Istio.
            found = replace(found, tags=_tags(one["customTags"]) or own)
    collector = None if silent else collector_of(takers("tracing", mesh.providers).get(provider) or {})
    return replace(found, collector=collector if collector and served(snapshot, collector) else None)


def _tags(given: Mapping[str, Any]) -> tuple[SpanTag, ...]:
    return tuple(tag for name, one in sorted(given.items()) if (tag := SpanTag.of(name, one)) is not None)


def served(snapshot: Snapshot, collector: Collector) -> bool:
    """Whether the mesh has the Service that an extension provider's spans go to: Istio sends none where it has not."""
    _, port, _, host = collector.cluster.split("|")
    service = snapshot.by_host.get(host)
    return service is not None and service.port(int(port)) is not None


def _names(section: Any) -> list[str]:
    return [str((one or {}).get("name")).lower() for one in section.get("providers") or []]


def _fits(match: Any, mode: str) -> bool:
    return (match or {}).get("mode", "CLIENT_AND_SERVER") in (mode, "CLIENT_AND_SERVER")
