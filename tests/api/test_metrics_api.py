# SPDX-License-Identifier: Apache-2.0
"""The Metrics API: served once an APIService says so, answered from what processes have used."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api import metrics_api
from meshbox.api.metrics_api import Metrics
from meshbox.api.objects import ObjectStore
from meshbox.contracts import ApiError

SERVICES, NAME = "apiservices.apiregistration.k8s.io", "v1beta1.metrics.k8s.io"
SERVED = {
    "metadata": {"name": NAME},
    "spec": {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": "metrics-server", "namespace": "kube-system"},
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    },
}


class Runtime:
    """A node whose processes have used what a test says, one reading after the other."""

    def __init__(self, *readings: dict[tuple[str, str, str, str], tuple[float, int]]) -> None:
        self._readings = list(readings)

    async def usage(self) -> Any:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


def serve(objects: ObjectStore) -> None:
    objects.create(SERVICES, SERVED)
    service = {"metadata": {"name": "metrics-server"}, "spec": {"ports": [{"port": 443}]}}
    objects.create("services", service, "kube-system")


def ready(objects: ObjectStore) -> None:
    labels = {"kubernetes.io/service-name": "metrics-server"}
    endpoint = {"addresses": ["127.0.0.9"], "conditions": {"ready": True}}
    found = {"metadata": {"name": "m", "labels": labels}, "addressType": "IPv4", "endpoints": [endpoint]}
    objects.create("endpointslices.discovery.k8s.io", found, "kube-system")


async def test_it_is_there_while_its_service_has_pods(objects: ObjectStore) -> None:
    made = Metrics(objects, Runtime({}), "labkit-test")  # type: ignore[arg-type]

    def refused() -> int:
        with pytest.raises(ApiError) as caught:
            made.check()
        return caught.value.code

    assert refused() == 404
    assert objects.registry.served("metrics.k8s.io", "v1beta1", "pods") is None
    serve(objects)
    assert objects.registry.served("metrics.k8s.io", "v1beta1", "pods") is not None
    assert refused() == 503
    ready(objects)
    made.check()
    objects.delete(SERVICES, NAME)
    assert refused() == 404
    assert objects.registry.served("metrics.k8s.io", "v1beta1", "pods") is None


async def test_cpu_is_what_was_used_between_two_readings(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0, 114.0))
    monkeypatch.setattr(metrics_api, "_SHORTEST", 0.0)
    serve(objects)
    ready(objects)
    web, gone, new, own = ("d", "web", "c", "1"), ("d", "old", "c", "2"), ("d", "web", "c", "3"), ("", "", "", "")
    first = {web: (1.0, 1 << 20), gone: (9.0, 1 << 20), own: (4.0, 8 << 20)}
    second = {web: (3.5, 2 << 20), own: (5.0, 8 << 20)}
    third = {new: (0.5, 1 << 20), own: (5.0, 8 << 20)}
    runtime: Any = Runtime(first, second, third)
    made = Metrics(objects, runtime, "labkit-test", clock=lambda: next(clock))
    # There was no reading before: it waits for a second one.
    used = await made.pods()
    assert {key: usage.containers for key, usage in used.items()} == {("d", "web"): {"c": (0.25, 2 << 20)}}
    assert used["d", "web"].window == 10.0
    # A container that was started anew has to be read twice.
    assert await made.pods() == {}
