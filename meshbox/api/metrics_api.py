# SPDX-License-Identifier: Apache-2.0
"""The Metrics API (metrics.k8s.io): what nodes and pods use now, as `kubectl top` and autoscalers ask it.

It is served once an APIService says so, as a metrics-server's own manifest does, and answered as long as the Service
that it names has pods. Nothing is read while nobody asks: a question that finds no earlier reading waits for a second
one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime

from labkit.ground.labels import written
from meshbox.api.resources import Registry, Resource
from meshbox.api.selectors import label_selector
from meshbox.api.store import Change, Entry, Store
from meshbox.contracts import ApiError, Clock, Obj, Objects, PodRuntime, PodUsage, Reading
from meshbox.values import dumps

__all__ = ["API_SERVICE", "METRICS", "Metrics", "Registration", "availability"]

API_SERVICES = "apiservices.apiregistration.k8s.io"
API_SERVICE = "v1beta1.metrics.k8s.io"
GROUP = "metrics.k8s.io"
METRICS = (f"nodes.{GROUP}", f"pods.{GROUP}")

_SHORTEST = 1.0
"""Seconds between two readings that make a rate: the kernel counts CPU time in hundredths."""
_USUAL, _OLDEST = 10.0, 60.0
"""How old the earlier reading is at best, and at most."""


class Registration:
    """Keeps the registry in step with the APIService.

    Args:
        store: Where it is.
        registry: What is served.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._registry = registry
        if store.entry(API_SERVICES, ("", API_SERVICE)) is not None:
            self._serve()
        store.listen(API_SERVICES, self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.entry.obj["metadata"]["name"] != API_SERVICE:
            return
        if change.type == "DELETED":
            for name in METRICS:
                self._registry.remove(name)
        elif self._registry.get(METRICS[0]) is None:
            self._serve()

    def _serve(self) -> None:
        for plural, kind, namespaced in (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True)):
            self._registry.add(
                Resource(
                    name=f"{plural}.{GROUP}",
                    group=GROUP,
                    version="v1beta1",
                    versions=("v1beta1",),
                    kind=kind,
                    plural=plural,
                    singular="",
                    namespaced=namespaced,
                    verbs=("get", "list"),
                    list_kind=f"{kind}List",
                )
            )


def availability(objects: Objects, service: Obj) -> tuple[bool, str, str]:
    """Whether who serves an API can be asked, with the reason and the words of its APIService's condition.

    Args:
        objects: The cluster's objects.
        service: The APIService's `spec.service`.
    """
    namespace, name = service.get("namespace", ""), service.get("name", "")
    if objects.find("services", name, namespace) is None:
        return False, "ServiceNotFound", f'service/{name} in "{namespace}" is not present'
    selector = written({"matchLabels": {"kubernetes.io/service-name": name}})
    slices = objects.view("endpointslices.discovery.k8s.io", namespace, labels=selector)
    ready = any((one.get("conditions") or {}).get("ready") for each in slices for one in each.get("endpoints") or ())
    if not ready:
        words = f'endpoints for service/{name} in "{namespace}" have no addresses'
        return False, "MissingEndpoints", words
    return True, "Passed", "all checks passed"


class Metrics:
    """What is used now; implements `contracts.ResourceMetrics`.

    Args:
        objects: The cluster's objects.
        runtime: The node, which knows the processes; None where no pods run.
        node: The node's name.
        clock: One that never goes back, in seconds.
    """

    def __init__(self, objects: Objects, runtime: PodRuntime | None, node: str, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._objects = objects
        self._runtime = runtime
        self._node = node
        self._readings: deque[Reading] = deque()
        self._lock = asyncio.Lock()

    def check(self) -> None:
        """Raise what a client is told who cannot be answered.

        Raises:
            ApiError: 404 where nothing says that the API is served, 503 where who serves it is not there.
        """
        found = self._objects.find(API_SERVICES, API_SERVICE)
        if found is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if self._runtime is None or not availability(self._objects, found["spec"].get("service") or {})[0]:
            raise ApiError(503, "ServiceUnavailable", "the server is currently unable to handle the request")

    async def pods(self) -> dict[tuple[str, str], PodUsage]:
        """What each pod uses, by namespace and name; one that has only just begun is left out.

        Raises:
            ApiError: as `check`.
        """
        self.check()
        earlier, now = await self._pair()
        window = now.at - earlier.at
        found: dict[tuple[str, str], PodUsage] = {}
        for (namespace, pod, container, identity), (seconds, memory) in now.used.items():
            before = earlier.used.get((namespace, pod, container, identity))
            if before is None or not pod:
                continue
            usage = found.setdefault((namespace, pod), PodUsage(now.when, window, {}))
            usage.containers[container] = (max(0.0, seconds - before[0]) / window, memory)
        return found

    async def answer(self, resource: Resource, namespace: str | None, name: str, labels: str) -> list[Entry]:
        """NodeMetrics or PodMetrics, those with this namespace, name and labels.

        Raises:
            ApiError: as `check`.
        """
        if resource.plural == "nodes":
            made = [await self._of_node()]
        else:
            used = await self.pods()
            made = [self._of_pod(key, usage) for key, usage in sorted(used.items()) if namespace in (None, key[0])]
        match = label_selector(labels)
        chosen = [one for one in made if name in ("", one["metadata"]["name"]) and (match is None or match(one))]
        return [Entry(one, dumps(one), 1) for one in chosen]

    def _of_pod(self, key: tuple[str, str], usage: PodUsage) -> Obj:
        pod = self._objects.find("pods", key[1], key[0]) or {"metadata": {}}
        containers = [
            {"name": name, "usage": {"cpu": _cpu(cores), "memory": _memory(memory)}}
            for name, (cores, memory) in usage.containers.items()
        ]
        meta = {"name": key[1], "namespace": key[0], "labels": pod["metadata"].get("labels")}
        return {**self._head("PodMetrics", meta, usage.when, usage.window), "containers": containers}

    async def _of_node(self) -> Obj:
        """The node is the sandbox: its pods, and the process that plays the rest of the cluster."""
        self.check()
        earlier, now = await self._pair()
        window = now.at - earlier.at
        spent = sum(max(0.0, used[0] - earlier.used[key][0]) for key, used in now.used.items() if key in earlier.used)
        memory = sum(used[1] for used in now.used.values())
        meta = {"name": self._node, "labels": self._objects.get("nodes", self._node)["metadata"].get("labels")}
        usage = {"cpu": _cpu(spent / window), "memory": _memory(memory)}
        return {**self._head("NodeMetrics", meta, now.when, window), "usage": usage}

    @staticmethod
    def _head(kind: str, meta: Obj, when: float, window: float) -> Obj:
        stamp = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kept = {field: value for field, value in meta.items() if value}
        return {
            "kind": kind,
            "apiVersion": f"{GROUP}/v1beta1",
            "metadata": {**kept, "creationTimestamp": stamp},
            "timestamp": stamp,
            "window": f"{round(window, 3):g}s",
        }

    async def _pair(self) -> tuple[Reading, Reading]:
        """Two readings, far enough from each other, the later one of now."""
        async with self._lock:
            now = await self._read()
            while self._readings and now.at - self._readings[0].at > _OLDEST:
                self._readings.popleft()
            earlier = self._earlier(now)
            if earlier is None:
                self._readings.append(now)
                await asyncio.sleep(_SHORTEST)
                earlier, now = now, await self._read()
            self._readings.append(now)
            return earlier, now

    def _earlier(self, now: Reading) -> Reading | None:
        fit = [one for one in self._readings if now.at - one.at >= _SHORTEST]
        usual = [one for one in fit if now.at - one.at >= _USUAL]
        return usual[-1] if usual else fit[0] if fit else None

    async def _read(self) -> Reading:
        assert self._runtime is not None
        used = await self._runtime.usage()
        return Reading(self._clock(), time.time(), used)


def _cpu(cores: float) -> str:
    nanos = round(cores * 1e9)
    return f"{nanos}n" if nanos else "0"


def _memory(size: int) -> str:
    return f"{size // 1024}Ki"
