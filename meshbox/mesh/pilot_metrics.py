# SPDX-License-Identifier: Apache-2.0
"""What the control plane does, counted under the names of Istio's own metrics.

Only what really happens here is counted. What Istio's programs have and this mesh has not (Go's runtime, gRPC streams,
Galley's MCP, Mixer's adapters) has no metric, so that a dashboard shows no data instead of a made-up number.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import AdmissionRequest, Obj
from meshbox.exposition import Counter, Histogram
from meshbox.mesh.kinds import NAMESPACES

__all__ = ["MeshMonitor"]

_TYPES = {"clusters": "cds", "listeners": "lds", "routes": "rds", "endpoints": "eds"}
_REGISTRY = {
    "services": "Services",
    "endpoints": "Endpoints",
    "endpointslices.discovery.k8s.io": "EndpointSlice",
    "pods": "Pods",
}
_TRIGGERS = {"services": "service", "endpoints": "endpoint", "endpointslices.discovery.k8s.io": "endpoint"}
_TRIGGERS |= {"pods": "proxy", "secrets": "secret", "configmaps": "global"}
_SECONDS = (0.1, 0.5, 1, 3, 5, 10, 20, 30)
_PUSH_SECONDS = (0.01, 0.1, 1, 3, 5, 10, 20, 30)
_BYTES = (1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000)
_EVENTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class MeshMonitor:
    """Counts what the mesh does."""

    def __init__(self) -> None:
        # --- xDS
        self._pushes = Counter("pilot_xds_pushes", "Pilot build and send errors for lds, rds, cds and eds.", "type")
        text = "Total time in seconds Pilot takes to push lds, rds, cds and eds."
        self._push_time = Histogram("pilot_xds_push_time", text, _PUSH_SECONDS, "type")
        text = "Distribution of configuration sizes pushed to clients"
        self._sizes = Histogram("pilot_xds_config_size_bytes", text, _BYTES, "type")
        text = "Delay in seconds between config change and a proxy receiving all required configuration."
        self._convergence = Histogram("pilot_proxy_convergence_time", text, _SECONDS)
        text = "Total number of XDS responses from pilot rejected by proxy."
        self._rejects = Counter("pilot_total_xds_rejects", text, "type")
        self._rejected = {
            short: Counter(
                f"pilot_xds_{short}_reject", f"Pilot rejected {short.upper()} configs.", "node", kind="gauge"
            )
            for short in _TYPES.values()
        }
        self._triggers = Counter(
            "pilot_push_triggers", "Total number of times a push was triggered, by reason.", "type"
        )
        self._reg = Counter("pilot_k8s_reg_events", "Events from k8s registry.", "type", "event")
        self._cfg = Counter("pilot_k8s_cfg_events", "Events from k8s config.", "type", "event")
        # --- webhooks
        what = ("group", "version", "resource")
        self._passed = Counter("galley_validation_passed", "Resource is valid", *what)
        self._failed = Counter("galley_validation_failed", "Resource validation failed", *what, "reason")
        text = "Total number of {}sidecar injection requests."
        self._injections = Counter("sidecar_injection_requests_total", text.format(""))
        self._injected = Counter("sidecar_injection_success_total", text.format("successful "))
        self._skipped = Counter("sidecar_injection_skip_total", text.format("skipped "))
        # --- Galley's gathering of changes, which this mesh does as Galley did
        runtime = "galley_runtime_"
        text = "The number of times the strategy's onChange has been called"
        self._on_change = Counter(f"{runtime}strategy_on_change_total", text)
        text = "The number of times the max time has been reached"
        self._max_time = Counter(f"{runtime}strategy_timer_max_time_reached_total", text)
        text = "The number of times a quiesce has been reached"
        self._quiesce = Counter(f"{runtime}strategy_timer_quiesce_reached_total", text)
        self._resets = Counter(f"{runtime}strategy_timer_resets_total", "The number of times the timer has been reset")
        text = "The number of events that have been processed"
        self._processed = Counter(f"{runtime}processor_events_processed_total", text)
        text = "The number of snapshots that have been published"
        self._published = Counter(f"{runtime}processor_snapshots_published_total", text)
        text = "The number of events per snapshot"
        self._per_snapshot = Histogram(f"{runtime}processor_snapshot_events_total", text, _EVENTS)
        text = "The number of times a kubernetes source successfully handled an event"
        self._source = Counter("galley_source_kube_event_success_total", text)
        self._waiting: set[str] = set()
        self._gathered = 0

    def pushed(self, kind: str, size: int, seconds: float) -> None:
        """Configuration of `size` bytes went to a proxy, `seconds` after its computing began."""
        if short := _TYPES.get(kind):
            self._pushes.add(short)
            self._push_time.observe(seconds, short)
            self._sizes.observe(size, short)

    def rejected(self, kind: str, node: str) -> None:
        """A proxy (its node id) refused what it was sent."""
        if short := _TYPES.get(kind):
            self._rejects.add(short)
            self._rejected[short].add(node)

    def converged(self, seconds: float) -> None:
        """A proxy has all of its configuration, `seconds` after the change."""
        self._convergence.observe(seconds)

    def followed(self, resource: str, obj: Obj, event: str) -> None:
        """An object was added, updated or deleted: "add", "update" or "delete"."""
        if resource == NAMESPACES:
            # Followed for the Gateway API only; neither Galley nor pilot counts them.
            return
        self._source.add()
        if kind := _REGISTRY.get(resource):
            self._reg.add(kind, event)
        elif resource.endswith(".istio.io"):
            self._cfg.add(str(obj.get("kind", "")), event)

    def changed(self, resource: str, *, again: bool) -> None:
        """Something changed that proxies depend on; `again` if more had changed just before."""
        self._on_change.add()
        self._processed.add()
        self._gathered += 1
        self._waiting.add(_TRIGGERS.get(resource, "config"))
        if again:
            self._resets.add()

    def gathered(self, *, longest: bool) -> None:
        """Changes are acted on: it has become quiet, or the `longest` time is over."""
        (self._max_time if longest else self._quiesce).add()
        self._published.add()
        self._per_snapshot.observe(self._gathered)
        for reason in self._waiting:
            self._triggers.add(reason)
        self._waiting.clear()
        self._gathered = 0

    def validated(self, request: AdmissionRequest, why: str) -> None:
        """A webhook of Istio's looked at an object, and denied it if it said `why`."""
        resource, _, group = request.resource.partition(".")
        version = str(request.object.get("apiVersion", "")).rpartition("/")[2]
        if not why:
            self._passed.add(group, version, resource)
            return
        reason = "crd_conversion_error" if why.startswith("error decoding") else "invalid_resource"
        self._failed.add(group, version, resource, reason)

    def injected(self, *, wanted: bool) -> None:
        """The injector was asked for a pod, and gave it a sidecar or did not."""
        self._injections.add()
        (self._injected if wanted else self._skipped).add()

    def xds(self) -> Iterator[str]:
        """Pilot's lines."""
        for one in (self._pushes, self._push_time, self._sizes, self._convergence, self._rejects, self._triggers):
            yield from one.lines()
        for one in (*self._rejected.values(), self._reg, self._cfg):
            yield from one.lines()

    def validation(self) -> Iterator[str]:
        """The lines of the validation webhook."""
        yield from self._passed.lines()
        yield from self._failed.lines()

    def injection(self) -> Iterator[str]:
        """The lines of the injection webhook."""
        for one in (self._injections, self._injected, self._skipped):
            yield from one.lines()

    def gathering(self) -> Iterator[str]:
        """Galley's lines about changes and snapshots."""
        timers = (self._on_change, self._max_time, self._quiesce, self._resets)
        for one in (*timers, self._processed, self._published, self._per_snapshot, self._source):
            yield from one.lines()
