"""Kill -9 of any process of a sandbox with BookInfo under load, and how long until everything is right again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil

from tests.conftest import BIN, processes_of, wait_until
from tests.e2e.conftest import Shop

__all__ = ["Api", "Load", "Target", "recovery", "targets", "under_load"]

ROUND = "x-round"
"""Header of the page's answers that a rule sets: which of the rules is in force."""
DEADLINE = 120.0
"""Seconds after which a recovery counts as none: Kubernetes' own back-off shows itself long before."""
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
        url = cluster["server"].rstrip("/") + path
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            found: Json = json.load(answer)
        return found

    def pods(self) -> list[Json]:
        """All pods of the mesh and of the shop."""
        return [
            pod
            for namespace in ("istio-system", "bookinfo")
            for pod in self("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        ]


@dataclass
class Load:
    """Requests at an even rate, from a thread of their own.

    Args:
        url: Where.
        rate: Requests a second.
        answers: When each was sent (monotonic seconds), when it was answered, status (0: none), its rule's mark.
    """

    url: str
    rate: float = 50.0
    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `end`."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            under_way: set[asyncio.Task[None]] = set()
            begun, number = time.monotonic(), 0
            while not self._ended.is_set():
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
        self.answers.append((sent, time.monotonic(), status, mark))

    def end(self) -> None:
        """Send no more."""
        self._ended.set()

    def steady(self, mark: str, count: int = 10) -> bool:
        """Whether the last `count` answers were right ones of the rule `mark`."""
        last = self.answers[-count:]
        return len(last) == count and all(answer[2:] == (200, mark) for answer in last)

    def last_wrong(self, since: float) -> float:
        """When the last request that was answered wrongly, of those sent after `since`, had been sent; else `since`."""
        return max((sent for sent, _, status, _ in self.answers if sent > since and status != 200), default=since)


@contextlib.contextmanager
def under_load(shop: Shop, rate: float = 50.0) -> Iterator[Load]:
    """The page is asked for all the while."""
    load = Load(f"{shop.url}/productpage", rate)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.end()
        thread.join()


@dataclass(frozen=True)
class Target:
    """A process to kill.

    Args:
        kind: What it is: "daemon", "keeper", or what it does in which workload, e.g. "productpage: envoy".
        pid: Its id now.
        pod: Its pod's namespace, name and container; empty for what serves all pods.
    """

    kind: str
    pid: int
    pod: tuple[str, str, str] = ("", "", "")


def targets(shop: Shop, api: Api) -> list[Target]:
    """Every process of the sandbox: those of containers, and those that stand for the node and the control plane."""
    found = []
    pods = {pod["metadata"]["uid"]: pod for pod in api.pods()}
    addresses = {pod["status"]["podIP"]: pod for pod in pods.values()}
    for process in processes_of(shop.sandbox.home):
        with contextlib.suppress(psutil.Error):
            words, name = process.cmdline(), process.name()
            if "labkit.sandbox.daemon" in words:
                found.append(Target("daemon", process.pid))
            elif name == "labkit-keeper":
                found.append(Target("keeper", process.pid))
            else:
                listens = {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
                block = shop.sandbox.node.rsplit(".", 2)[0]
                listens |= {
                    f"{block}.{int(third) - 64}.{last}" for third, last in (ip.split(".")[2:] for ip in listens)
                }
                pod = next((pod for uid, pod in pods.items() if uid in " ".join(words)), None)
                pod = pod or next((addresses[ip] for ip in listens if ip in addresses), None)
                if pod is None:
                    found.append(Target(name, process.pid))
                    continue
                app = pod["metadata"]["name"].rsplit("-", 2)[0]
                kind = "envoy" if name == "envoy" else "guard" if is_guard(process) else name
                container = "istio-proxy" if name == "envoy" else pod["spec"]["containers"][0]["name"]
                if app == "prometheus":
                    container = next(
                        c["name"] for c in pod["spec"]["containers"] if "/prometheus:" in c["image"]
                    )
                where = (pod["metadata"]["namespace"], pod["metadata"]["name"], container)
                found.append(Target(f"{app}: {kind}", process.pid, where))
    return found


def is_guard(process: psutil.Process) -> bool:
    return process.name() == "prometheus" and any(child.name() == "prometheus" for child in process.children())


def ready(pod: Json) -> bool:
    return all(one["ready"] for one in pod["status"].get("containerStatuses") or [{"ready": False}])


class Whole:
    """Whether a sandbox does everything it should: asked again and again after a kill."""

    def __init__(self, shop: Shop, api: Api, load: Load, mark: str, killed: Target) -> None:
        self.shop, self.api, self.load, self.mark, self.killed = shop, api, load, mark, killed
        self.since = 0.0
        self._before = self._restarts()
        self.when: dict[str, float] = {}
        self._steps: list[tuple[str, Callable[[], bool]]] = [
            ("replaced", self._replaced),
            ("rule", self._rule),
            ("page", lambda: load.steady(mark)),
            ("ready", lambda: all(ready(pod) for pod in api.pods())),
            ("injection", self._injects),
            ("consoles", self._consoles),
            ("scraped", self._scraped),
            ("exec", self._executes),
        ]

    def __call__(self) -> bool:
        for name, step in self._steps:
            if name in self.when:
                continue
            with contextlib.suppress(OSError, urllib.error.URLError, ValueError, KeyError, StopIteration):
                if step():
                    self.when[name] = time.monotonic() - self.since
            if name == "replaced" and name not in self.when:
                break
        return len(self.when) == len(self._steps)

    def _restarts(self) -> int:
        return sum(
            one["restartCount"]
            for pod in self.api.pods()
            for one in (*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", []))
        )

    def _replaced(self) -> bool:
        """Whether another does the killed one's work: until then nothing tells how it is done."""
        if self.killed.pod:
            return self._restarts() > self._before
        return any(one.kind == self.killed.kind and one.pid != self.killed.pid for one in targets(self.shop, self.api))

    def _rule(self) -> bool:
        """A rule written now is to be in force in a moment: checked by "page"."""
        rule = [{"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "productpage", "port": {"number": 9080}}}]}]
        rule[0]["headers"] = {"response": {"set": {ROUND: self.mark}}}  # type: ignore[assignment]
        version = "v1alpha3" if self.shop.sandbox.release == "1.2.2" else "v1"
        path = f"/apis/networking.istio.io/{version}/namespaces/bookinfo/virtualservices/bookinfo"
        self.api("PATCH", path, {"spec": {"http": rule}}, "application/merge-patch+json")
        return True

    def _injects(self) -> bool:
        spec = {"containers": [{"name": "c", "image": "busybox:1.28"}]}
        pod = {"metadata": {"name": "injected"}, "spec": spec}
        made = self.api("POST", "/api/v1/namespaces/bookinfo/pods?dryRun=All", pod)
        names = [one["name"] for one in (*made["spec"]["containers"], *made["spec"].get("initContainers", []))]
        return "istio-proxy" in names

    def _consoles(self) -> bool:
        for app, port, path in (("grafana", 3000, "/api/health"), ("kiali", 20001, "/kiali/healthz"), ("jaeger", 16686, "/")):
            pod = next(pod for pod in self.api.pods() if pod["metadata"]["name"].startswith((app, "istio-tracing" if app == "jaeger" else app)))
            with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{port}{path}", timeout=3) as answer:
                answer.read()
        return True

    def _scraped(self) -> bool:
        pod = next(pod for pod in self.api.pods() if pod["metadata"]["name"].startswith("prometheus"))
        query = "count(timestamp(istio_requests_total{destination_workload='productpage-v1'}) > %f)" % self.wall
        url = f"http://{pod['status']['podIP']}:9090/api/v1/query?query={urllib.request.quote(query)}"
        with urllib.request.urlopen(url, timeout=3) as answer:
            return bool(json.load(answer)["data"]["result"])

    @property
    def wall(self) -> float:
        return time.time() - (time.monotonic() - self.since)

    def _executes(self) -> bool:
        namespace, pod, container = self.killed.pod
        if not pod:
            app = next(one for one in self.api.pods() if one["metadata"]["name"].startswith("details"))
            namespace, pod, container = "bookinfo", app["metadata"]["name"], "details"
        where = ["-n", namespace, pod, "-c", container]
        command = [str(BIN / "kubectl"), "exec", *where, "--", "true"]
        done = subprocess.run(command, env=self.shop.sandbox.env, capture_output=True, timeout=20)
        log = [str(BIN / "kubectl"), "logs", *where, "--tail=1"]
        return done.returncode == 0 and not subprocess.run(log, env=self.shop.sandbox.env, capture_output=True).returncode


def recovery(shop: Shop, api: Api, load: Load, target: Target, number: int) -> dict[str, float]:
    """Kill the process and wait until all is well; how many seconds after the kill each part was.

    Returns:
        Part → seconds; "traffic" is the time of the last request that was answered wrongly, "all" the largest.
    """
    whole = Whole(shop, api, load, f"{number}", target)
    psutil.Process(target.pid).kill()
    since = whole.since = time.monotonic()
    if target.kind == "daemon":
        up = shop.sandbox.labkit("up", "--name", shop.sandbox.name)
        assert up.returncode == 0, up.stderr
    with contextlib.suppress(AssertionError):
        wait_until(whole, DEADLINE, f"all after the end of {target.kind}")
    missing = {name for name, _ in whole._steps} - whole.when.keys()
    seen = {**whole.when, **dict.fromkeys(missing, float("inf")), "traffic": load.last_wrong(since) - since}
    return {**{name: round(value, 2) for name, value in seen.items()}, "all": round(max(seen.values()), 2)}
