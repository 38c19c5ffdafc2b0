# SPDX-License-Identifier: Apache-2.0
"""The measurements. Each returns rows of (what, measured, floor, target); a floor is taken in the same run."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.course import lessons
from tools.bench.bare import bare_envoy, bare_server, bare_world, ending, routes_file
from tools.bench.world import BIN, GENUINE, NOTEBOOKS, World, homes, status_of, wait_for, world


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        what: What was measured.
        value: The measurement, in `unit`.
        unit: "s", "ms", "MiB", "%" or "×".
        floor: The same measured on a bare peer, in `unit`; None where there is none.
        floor_is: What the floor is.
        limit: The figure to stay under, in `unit`; compared with `value`. None: only written down.
    """

    what: str
    value: float
    unit: str
    floor: float | None
    floor_is: str
    limit: float | None = None

    @property
    def met(self) -> bool:
        """Whether the limit was kept."""
        return self.limit is None or self.value <= self.limit


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def zero_to_200(here: World) -> list[Figure]:
    """From nothing to the first 200 at /productpage through the ingress gateway."""

    def everything() -> None:
        here.up()
        here.install()
        here.bookinfo()
        # Who looks for the page knows where: to ask kubectl before each look takes more than what is waited for.
        gateway = here.gateway()
        wait_for(lambda: status_of(*gateway, "/productpage") == 200)

    value = _seconds(everything)
    programs = [process.name() for process in here.processes()]
    envoys, pythons = sum("envoy" in name for name in programs), 6

    began = time.perf_counter()
    with bare_world(envoys, pythons):
        floor = time.perf_counter() - began
    limit = 3.0 if here.release.startswith("1.2.") else 2.0
    what, beside = "zero → first 200 at /productpage", f"{envoys} bare Envoys, {pythons} Pythons"
    return [
        Figure(what, value, "s", floor, beside, limit),
        Figure(f"{what} / its floor", value / floor, "×", None, "", 3.5),
    ]


def rule_applied(here: World, rounds: int = 11) -> Figure:
    """A VirtualService changes; how long until every new request follows it. From the write's answer, median."""
    host, port = here.gateway()
    rule = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "VirtualService",
        "metadata": {"name": "bench-rule", "namespace": "bookinfo"},
        "spec": {
            "hosts": ["bench.example.com"],
            "gateways": ["bookinfo-gateway"],
            "http": [
                {
                    "match": [{"uri": {"exact": "/bench"}}],
                    "fault": {"abort": {"httpStatus": 418, "percent": 100}},
                    "route": [{"destination": {"host": "productpage", "port": {"number": 9080}}}],
                }
            ],
        },
    }
    headers = {"Host": "bench.example.com"}
    took = []
    for index in range(rounds):
        expected = 418 + index % 2 * 11
        abort = rule["spec"]["http"][0]["fault"]["abort"]  # type: ignore[index]
        abort["httpStatus"] = expected
        if not here.release.startswith("1.2."):
            abort.pop("percent", None)
            abort["percentage"] = {"value": 100}
        here.kubectl("apply", "-f", "-", stdin=json.dumps(rule))
        began = time.perf_counter()
        wait_for(lambda: status_of(host, port, "/bench", headers) == expected, pause=0.001)  # noqa: B023
        took.append(time.perf_counter() - began)
    here.kubectl("delete", "virtualservice", "-n", "bookinfo", "bench-rule")

    flips = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, upstream = bare_server()
        rds = routes_file(folder)
        envoy, envoy_port = bare_envoy(folder, ("127.0.0.1", upstream), rds)
        with ending([server, envoy]):
            wait_for(lambda: status_of("127.0.0.1", envoy_port, "/") == 200)
            for index in range(rounds):
                expected = 418 + index % 2 * 11
                routes_file(folder, expected)
                began = time.perf_counter()
                wait_for(lambda: status_of("127.0.0.1", envoy_port, "/") == expected, pause=0.001)  # noqa: B023
                flips.append(time.perf_counter() - began)
    return Figure(
        f"rule applied → new requests follow (median of {rounds}, worst {max(took) * 1000:.0f} ms)",
        statistics.median(took) * 1000,
        "ms",
        statistics.median(flips) * 1000,
        "a bare Envoy's route file",
        100.0,
    )


def memory(here: World) -> list[Figure]:
    """What everything takes together, by proportional set size."""
    sizes = here.pss()
    with tempfile.TemporaryDirectory() as name:
        server, port = bare_server()
        envoy, envoy_port = bare_envoy(Path(name), ("127.0.0.1", port))
        with ending([server, envoy]):
            wait_for(lambda: status_of("127.0.0.1", envoy_port, "/") == 200)
            import psutil

            bare = psutil.Process(envoy.pid).memory_full_info().pss / 2**20
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items()) if name != "all")
    return [Figure(f"everything running, PSS ({parts})", sizes["all"], "MiB", bare, "one bare Envoy", 420.0)]


def kubectl_times(here: World) -> list[Figure]:
    """What a learner waits for at the prompt."""

    def median(*arguments: str, rounds: int = 9) -> float:
        return statistics.median(_seconds(lambda: here.kubectl(*arguments)) for _ in range(rounds))

    bare = median("version", "--client")
    return [
        Figure("kubectl get pods", median("get", "pods", "-n", "bookinfo"), "s", bare, "kubectl version --client", 0.1),
        Figure("kubectl get pods -o wide -A", median("get", "pods", "-A", "-o", "wide"), "s", bare, "the same", None),
    ]


def genuine_apply(release: str = "1.2.2") -> list[Figure]:
    """The genuine 19 600-line istio-demo.yaml, where it is at hand."""
    demo = GENUINE / f"istio-{release}" / "install/kubernetes/istio-demo.yaml"
    if not demo.exists():
        return []
    with world(release) as fresh:
        fresh.up()
        for file in sorted((demo.parent / "helm/istio-init/files").glob("crd*yaml")):
            fresh.kubectl("apply", "-f", str(file))
        floor = _seconds(lambda: fresh.kubectl("create", "--dry-run=client", "-o", "name", "-f", str(demo)))
        value = _seconds(lambda: fresh.kubectl("apply", "-f", str(demo)))
        return [Figure("kubectl apply of the genuine istio-demo.yaml", value, "s", floor, "reading it, --dry-run", 3.0)]


def down(here: World) -> Figure:
    """Stopping everything."""
    processes = here.processes()
    return Figure(f"labkit down ({len(processes)} processes)", here.down(), "s", None, "", 2.0)


WALK_THROUGH = ("00-kubernetes", "01-install-istio", "02-bookinfo", "03-ingress", "99-clean-up")
"""The lessons that bring BookInfo behind the ingress and away again."""


def notebooks(release: str) -> list[Figure]:
    """The walk-through's five notebooks, the nine that look at a mesh, and the whole course with those that steer it,
    as `make workshop` plays it: headless, against the start of as many empty kernels.
    """
    kernel = _seconds(_empty_kernel)
    course = tuple(lessons(release))
    looking = tuple(name for name in course if not "08" <= name[:2] < "99")
    return [
        Figure(
            f"{len(chosen)} notebooks headless, Istio {release}",
            _played(release, chosen),
            "s",
            kernel * len(chosen),
            "as many empty kernels",
            limit,
        )
        for chosen, limit in ((WALK_THROUGH, None), (looking, 60.0), (course, 240.0))
    ]


def _played(release: str, chosen: Sequence[str]) -> float:
    import os

    with tempfile.TemporaryDirectory(prefix="labkit-bench-", dir=homes()) as name:
        environment = {**os.environ, "LABKIT_HOME": name, "HOME": name}
        environment.pop("KUBECONFIG", None)
        command = [str(BIN / "labkit"), "run", "--release", release, "--out", f"{name}/out"]
        began = time.perf_counter()
        # Named lessons are played one after the other; the whole course, which nobody names, in lanes.
        named = chosen if len(chosen) < len(lessons(release)) else ()
        paths = [str(NOTEBOOKS / f"{notebook}.ipynb") for notebook in named]
        done = subprocess.run([*command, *paths], cwd=NOTEBOOKS.parent, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"labkit run failed:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - began


def _empty_kernel() -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(stderr=subprocess.DEVNULL)
    client.execute_interactive("1")
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def growth(here: World) -> list[Figure]:
    """A rule's way to the gateway with more Services in the mesh, and what these take as long as they are there."""
    before = here.pss()["all"]
    rows = []
    known = 0
    for count in (10, 50, 100):
        services = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"filler-{index}", "namespace": "bookinfo"},
                "spec": {"ports": [{"name": "http", "port": 8000 + index}], "selector": {"app": "details"}},
            }
            for index in range(known, count)
        ]
        known = count
        here.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": services}))
        figure = rule_applied(here, 5)
        rows.append(Figure(f"… with {count} more Services", figure.value, "ms", figure.floor, figure.floor_is, None))
    rows.append(Figure("… all of it then, PSS", here.pss()["all"], "MiB", before, "before them", 700.0))
    here.kubectl("delete", "service", "-n", "bookinfo", *(f"filler-{index}" for index in range(known)))
    # What is given back comes little by little.
    sizes = []
    for _ in range(30):
        time.sleep(2.0)
        sizes.append(here.pss()["all"])
    rows.append(Figure("… and within a minute of their end, PSS", min(sizes), "MiB", before, "before them", 520.0))
    return rows
