# SPDX-License-Identifier: Apache-2.0
"""What single parts of the sandbox take, without the rest: each on objects of its own. Least of several tries."""

from __future__ import annotations

import asyncio
import copy
import http.client
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from meshbox.api.custom_schema import CustomSchema
from meshbox.images.jaeger.store import TraceStore
from tests.controllers.conftest import DEPLOYMENTS, deployment
from tests.controllers.conftest import Cluster as Controlled
from tests.images.test_jaeger import page_view
from tests.node.conftest import running
from tools.bench.figures import Figure
from tools.bench.world import GENUINE


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="labkit-bench-") as name:
        yield Path(name)


def parts() -> list[Figure]:
    """All of them."""
    return [*admission(), *traces(), *asyncio.run(scheduling()), asyncio.run(pods()), *asyncio.run(serving())]


def admission() -> list[Figure]:
    """A VirtualService held against the schema in the genuine CRDs, where they are at hand."""
    folder = GENUINE / "istio-1.30.3"
    objects = [
        found
        for path in sorted(folder.rglob("*.yaml"))
        for found in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        if found
    ]
    named = {(one["kind"], one.get("metadata", {}).get("name")): one for one in objects}
    crd = named.get(("CustomResourceDefinition", "virtualservices.networking.istio.io"))
    rule = named.get(("VirtualService", "bookinfo"))
    if crd is None or rule is None:
        return []
    version = rule["apiVersion"].rpartition("/")[2]
    [written] = [one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"] if one["name"] == version]
    schema = CustomSchema(written, preserve_unknown=False)
    schema.admit(copy.deepcopy(rule))
    took = []
    for _ in range(20):
        began = time.perf_counter()
        schema.admit(rule)
        took.append(time.perf_counter() - began)
    return [Figure("a VirtualService is admitted by its schema", min(took) * 1000, "ms", None, "", 1.0)]


def traces() -> list[Figure]:
    """What Envoys send of a page view, stored by Jaeger's stand-in: 200 requests a second bring 200 such batches."""
    store = TraceStore()
    batches = [page_view(trace) for trace in range(1, 2001)]
    began = time.process_time()
    for batch in batches:
        store.add(batch, size=4000)
    took = (time.process_time() - began) / len(batches)
    return [Figure("a page view's four spans are stored, CPU", took * 1000, "ms", None, "", 2.5)]


async def scheduling() -> list[Figure]:
    """A Deployment to a pod that is bound, in processor time, which other processes do not lengthen."""

    async def spent(cluster: Controlled, wanted: int, prefix: str) -> float:
        def bound() -> int:
            return sum(bool(pod["spec"].get("nodeName")) for pod in cluster.pods())

        await cluster.settled()
        before, began = bound(), time.process_time()
        for number in range(wanted):
            cluster.objects.create(DEPLOYMENTS, deployment(f"{prefix}-{number}"))
        await cluster.until(lambda: bound() == before + wanted)
        return time.process_time() - began

    with _folder() as folder:
        cluster = await Controlled(folder / "home").start()
        try:
            one = [await spent(cluster, 1, f"one-{number}") for number in range(5)]
            fifteen = await spent(cluster, 15, "fifteen")
        finally:
            await cluster.stop()
    return [
        Figure("a Deployment's pod is scheduled, CPU", min(one) * 1000, "ms", None, "", 20.0),
        Figure("fifteen Deployments' pods are scheduled, CPU", fifteen * 1000, "ms", None, "", 150.0),
    ]


async def pods() -> Figure:
    """Ten pods of a Python app, from their creation until all are ready."""
    floor = await _ten_bare_pythons()
    with _folder() as folder:
        async with running(folder / "home") as cluster:
            began = time.perf_counter()
            for number in range(10):
                cluster.pod(f"p{number}", {"image": "istio/examples-bookinfo-details-v1:1.12.0"})
            await cluster.until(lambda: all(cluster.ready(f"p{number}") for number in range(10)), seconds=60)
            took = time.perf_counter() - began
    return Figure("ten pods → ready", took, "s", floor, "ten bare Pythons", 1.0)


async def _ten_bare_pythons() -> float:
    """Seconds until ten Pythons without anything of ours have loaded what an HTTP server needs."""
    began = time.perf_counter()
    command = (sys.executable, "-S", "-E", "-c", "import http.server")
    ended = [(await asyncio.create_subprocess_exec(*command)).wait() for _ in range(10)]
    assert await asyncio.gather(*ended) == [0] * 10
    return time.perf_counter() - began


async def serving() -> list[Figure]:
    """Five hundred requests to one stand-in, on one connection."""
    image, port = "docker.io/mccutchen/go-httpbin:v2.15.0", 8080
    with _folder() as folder:
        async with running(folder / "home") as cluster:
            probe = {"httpGet": {"path": "/status/200", "port": port}}
            cluster.pod("httpbin", {"image": image, "readinessProbe": probe})
            await cluster.until(lambda: cluster.ready("httpbin"), seconds=60)
            host = str(cluster.status("httpbin")["podIP"])
            listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            [pid] = {one.pid for one in listening if one.laddr == (host, port)}

            def load() -> list[float]:
                connection = http.client.HTTPConnection(host, port, timeout=30)
                moments = [time.perf_counter()]
                for _ in range(500):
                    connection.request("GET", "/get")
                    connection.getresponse().read()
                    moments.append(time.perf_counter())
                connection.close()
                return [end - start for start, end in itertools.pairwise(moments)]

            before = psutil.Process(pid).cpu_times()
            took = await asyncio.to_thread(load)
            after = psutil.Process(pid).cpu_times()
    spent = after.user + after.system - before.user - before.system
    return [
        Figure("500 requests to httpbin, CPU", spent, "s", None, "", 1.0),
        Figure("the quickest of them", min(took) * 1000, "ms", None, "", 2.0),
    ]
