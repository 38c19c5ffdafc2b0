# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of any process of a sandbox with BookInfo under load, and how long until everything is right again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import threading
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import psutil

from tests.conftest import BIN, processes_of, wait_until
from tests.shops import Shop

__all__ = ["Api", "Load", "Recovery", "Target", "recovery", "settled", "targets", "under_load"]

ROUND = "x-round"
"""Header of the page's answers that a rule sets: which of the rules is in force."""
DEADLINE = 120.0
"""Seconds after which a recovery counts as none: Kubernetes' own back-off shows itself long before."""
SETTLED = 13.0
"""Seconds after which a container's end by SIGKILL is no crash to the node: 10 since its process started, and what a
start is written down as too early by: the part of a second that is cut off, and the time that it took."""
CONSOLES = {"grafana": (3000, "/api/health"), "kiali": (20001, "/kiali/healthz")}
SAMPLE = "istio_requests_total{destination_workload='productpage-v1'}"
Json = dict[str, Any]


class Api:
    """The API server, spoken to directly: quicker than kubectl, so that polling costs little."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def __call__(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        config = json.loads(self._shop.sandbox.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": kind}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(cluster["server"].rstrip("/") + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            found: Json = json.load(answer)
        return found

    def pods(self) -> list[Json]:
        """All pods of the mesh and of the shop."""
        both = [self("GET", f"/api/v1/namespaces/{name}/pods")["items"] for name in ("istio-system", "bookinfo")]
        return [*both[0], *both[1]]

    def statuses(self) -> dict[tuple[str, str, str], Json]:
        """Namespace, pod and container → its status, of all containers that go on running."""
        return {
            (pod["metadata"]["namespace"], pod["metadata"]["name"], one["name"]): one
            for pod in self.pods()
            for one in (*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", []))
            if pod["status"].get("phase") == "Running" and "terminated" not in one["state"]
        }


@dataclass
class Load:
    """Requests at an even rate, from a thread of their own.

    Args:
        url: Where.
        rate: Requests a second.
        answers: When each was sent (monotonic seconds), its status (0: none), its rule's mark; in order of answers.
    """

    url: str
    rate: float
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Until `ended`."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            under_way: set[asyncio.Task[None]] = set()
            begun, number = time.monotonic(), 0
            while not self.ended.is_set():
                number += 1
                await asyncio.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
                task = asyncio.create_task(self._one(session))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        sent, status, mark = time.monotonic(), 0, ""
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            async with session.get(self.url) as answer:
                await answer.read()
                status, mark = answer.status, answer.headers.get(ROUND, "")
        self.answers.append((sent, status, mark))

    def steady(self, mark: str, count: int = 10) -> bool:
        """Whether the last `count` answers were right ones of the rule `mark`."""
        last = self.answers[-count:]
        return len(last) == count and all(answer[1:] == (200, mark) for answer in last)

    def last_wrong(self, since: float) -> float:
        """When the last request after `since` was sent that was answered wrongly; `since` where none was."""
        return max((sent for sent, status, _ in self.answers if sent > since and status != 200), default=since)


@contextlib.contextmanager
def under_load(shop: Shop, rate: float = 50.0) -> Iterator[Load]:
    """The page is asked for all the while."""
    load = Load(f"{shop.url}/productpage", rate)
    thread = threading.Thread(target=lambda: asyncio.run(load.run()))
    thread.start()
    try:
        yield load
    finally:
        load.ended.set()
        thread.join()


@dataclass(frozen=True)
class Target:
    """A process to kill.

    Args:
        kind: What it is: "daemon", "keeper", or what it does in which workload, e.g. "productpage-v1: envoy".
        pid: Its id now.
        pod: Its pod's namespace, name and container; empty for what serves all pods.
    """

    kind: str
    pid: int
    pod: tuple[str, str, str] = ("", "", "")


def targets(shop: Shop, api: Api) -> list[Target]:
    """Every process of the sandbox: those of containers, and those that stand for the node and the control plane."""
    pods = api.pods()
    found = []
    for process in processes_of(shop.sandbox.home):
        # Whatever ends meanwhile is none.
        with contextlib.suppress(psutil.Error):
            if "meshbox.daemon" in process.cmdline():
                found.append(Target("daemon", process.pid))
            elif process.name() == "labkit-keeper":
                found.append(Target("keeper", process.pid))
            elif pod := pod_of(process, pods, shop.sandbox.node):
                app = pod["metadata"]["name"].rsplit("-", 2)[0]
                where = pod["metadata"]["namespace"], pod["metadata"]["name"], container_of(process, pod)
                kind = "guard" if is_guard(process) else process.name()
                found.append(Target(f"{app}: {kind}", process.pid, where))
    return found


def pod_of(process: psutil.Process, pods: list[Json], node: str) -> Json | None:
    """The pod a process belongs to: its folder stands in the command line, or the process listens at its addresses."""
    words = " ".join(process.cmdline())
    listening = {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    block = node.rsplit(".", 2)[0]
    thirds = [(address.split(".")[2], address.rsplit(".", 1)[1]) for address in listening]
    # A pod's own "localhost" lies 64 above its address.
    listening |= {f"{block}.{int(third) - 64}.{last}" for third, last in thirds}
    for pod in pods:
        if pod["metadata"]["uid"] in words or pod["status"].get("podIP") in listening:
            return pod
    return None


def container_of(process: psutil.Process, pod: Json) -> str:
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    if process.name() == "envoy":
        return "istio-proxy"
    image = "/prometheus:" if process.name() == "prometheus" else ""
    return next(one["name"] for one in containers if image in one["image"] and one["name"] != "istio-proxy")


def is_guard(process: psutil.Process) -> bool:
    return process.name() == "prometheus" and any(child.name() == "prometheus" for child in process.children())


def settled(api: Api, target: Target) -> bool:
    """Whether the target's container has run long enough for a kill to be no crash."""
    if not target.pod[0]:
        return True
    running = api.statuses()[target.pod]["state"].get("running")
    return bool(running) and time.time() - datetime.fromisoformat(running["startedAt"]).timestamp() > SETTLED


@dataclass
class Recovery:
    """How a sandbox came back after a kill.

    Args:
        target: What was killed.
        when: What was right again → seconds after the kill; missing if it never was. "traffic" is when the last request
            was sent that was answered wrongly.
        others: Containers that were restarted though they had not been killed.
    """

    target: Target
    when: dict[str, float]
    others: list[tuple[str, str, str]]

    def took(self, *, without: tuple[str, ...] = ()) -> float:
        """Seconds until all was right, save the parts `without`."""
        return max(self.when.get(name, float("inf")) for name in (*_PARTS, "traffic") if name not in without)


_PARTS = ("replaced", "rule", "page", "ready", "injection", "consoles", "scraped", "exec", "logs")


class _Whole:
    """Whether a sandbox does everything it should: asked again and again after a kill."""

    def __init__(self, shop: Shop, api: Api, load: Load, target: Target, mark: str) -> None:
        self.shop, self.api, self.load, self.target, self.mark = shop, api, load, target, mark
        self.before = api.statuses()
        self.killed, self.wall = time.monotonic(), time.time()
        self.when: dict[str, float] = {}

    def __call__(self) -> bool:
        for name in _PARTS:
            if name in self.when:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, StopIteration):
                if getattr(self, f"_{name}")():
                    self.when[name] = time.monotonic() - self.killed
            if "replaced" not in self.when:
                # Until then nothing tells how the successor does its work.
                break
        return len(self.when) == len(_PARTS)

    def _replaced(self) -> bool:
        if self.target.pod[0]:
            return self.target.pod in self.restarted()
        now = targets(self.shop, self.api)
        return any(one.kind == self.target.kind and one.pid != self.target.pid for one in now)

    def restarted(self) -> list[tuple[str, str, str]]:
        now = self.api.statuses()
        return [where for where, one in now.items() if one["restartCount"] > self.before[where]["restartCount"]]

    def _rule(self) -> bool:
        """A rule that is written now; "page" tells whether it is followed."""
        route = {"destination": {"host": "productpage", "port": {"number": 9080}}}
        http = {"route": [route], "headers": {"response": {"set": {ROUND: self.mark}}}}
        version = "v1alpha3" if self.shop.sandbox.release == "1.2.2" else "v1"
        path = f"/apis/networking.istio.io/{version}/namespaces/bookinfo/virtualservices/bookinfo"
        self.api("PATCH", path, {"spec": {"http": [http]}}, "application/merge-patch+json")
        return True

    def _page(self) -> bool:
        return self.load.steady(self.mark)

    def _ready(self) -> bool:
        now = self.api.statuses()
        return now.keys() == self.before.keys() and all(one["ready"] for one in now.values())

    def _injection(self) -> bool:
        pod = {"metadata": {"name": "injected"}, "spec": {"containers": [{"name": "c", "image": "busybox:1.28"}]}}
        made = self.api("POST", "/api/v1/namespaces/bookinfo/pods?dryRun=All", pod)["spec"]
        return any(one["name"] == "istio-proxy" for one in (*made["containers"], *made.get("initContainers", [])))

    def _get(self, app: str, port: int, path: str) -> bytes:
        pod = next(pod for pod in self.api.pods() if pod["metadata"]["name"].startswith(app))
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def _consoles(self) -> bool:
        query = f"/api/v1/query?query={quote('count(count_over_time(up[1h]))')}"
        history = json.loads(self._get("prometheus", 9090, query))["data"]["result"]
        for app, where in CONSOLES.items():
            # Any answer but a good one is an error; a good one may be empty, as Kiali's is.
            self._get(app, *where)
        return bool(history) or not self._history_kept()

    def _history_kept(self) -> bool:
        """Whether Prometheus stores on a volume: what is only in a container goes with it, as in Kubernetes."""
        pod = next(pod for pod in self.api.pods() if pod["metadata"]["name"].startswith("prometheus"))
        return any("emptyDir" in volume or "persistentVolumeClaim" in volume for volume in pod["spec"]["volumes"])

    def _scraped(self) -> bool:
        """A sample of after the kill."""
        query = quote(f"count(timestamp({SAMPLE}) > {self.wall})")
        return bool(json.loads(self._get("prometheus", 9090, f"/api/v1/query?query={query}"))["data"]["result"])

    def _kubectl(self, verb: str, *more: str) -> bool:
        where = self.target.pod if self.target.pod[0] else next(key for key in self.before if key[2] == "details")
        command = [str(BIN / "kubectl"), verb, "-n", where[0], where[1], "-c", where[2], *more]
        return subprocess.run(command, env=self.shop.sandbox.env, capture_output=True, timeout=120).returncode == 0

    def _exec(self) -> bool:
        return self._kubectl("exec", "--", "true")

    def _logs(self) -> bool:
        return self._kubectl("logs", "--tail=1")


def recovery(shop: Shop, api: Api, load: Load, target: Target, mark: str) -> Recovery:
    """Kill the process and wait until all is well, or `DEADLINE`; a killed daemon is started again by `labkit up`.

    Args:
        shop: Where.
        api: Its API.
        load: What goes on meanwhile.
        target: What to kill.
        mark: A word that no kill before had.
    """
    whole = _Whole(shop, api, load, target, mark)
    psutil.Process(target.pid).kill()
    if target.kind == "daemon":
        up = shop.sandbox.labkit("up", "--name", shop.sandbox.name)
        assert up.returncode == 0, up.stderr
    with contextlib.suppress(AssertionError):
        wait_until(whole, DEADLINE, f"all after the end of {target.kind}", rest=0)
    whole.when["traffic"] = load.last_wrong(whole.killed) - whole.killed
    others = [where for where in whole.restarted() if target.pod[0] and where != target.pod]
    return Recovery(target, {name: round(value, 2) for name, value in whole.when.items()}, others)
