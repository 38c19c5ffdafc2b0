# SPDX-License-Identifier: Apache-2.0
"""What the API takes when a thousand pods are there: to store one, to change one, to tell many watchers of it.

The pods belong to a scheduler that nobody runs, so nothing starts; the CPU is the daemon's.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil

from tools.bench.figures import Figure
from tools.bench.world import World, spent, wait_for, world

PODS = 1000
ROUNDS = 100
WATCHERS = 50
CHANGES = 20
"""Few enough that what 50 watchers are told lies in their sockets' buffers: nobody reads it in the meantime."""

_PATH = "/api/v1/namespaces/crowd/pods"


def crowd(release: str) -> list[Figure]:
    """CPU of the daemon in milliseconds, and KiB of its memory: a new one, since one that had more before has room."""
    with world(release) as here:
        here.up()
        here.install()
        return _crowd(here)


def _crowd(here: World) -> list[Figure]:
    (daemon,) = (one for one in here.processes() if "meshbox.daemon" in one.cmdline())
    api = _Api(here)
    here.kubectl("create", "namespace", "crowd")
    # What an account's namespace gets by itself is there before anything is counted.
    wait_for(lambda: api.ask("GET", "/api/v1/namespaces/crowd/serviceaccounts/default")[0] == 200)
    before = daemon.memory_full_info().uss
    for number in range(PODS):
        api.must("POST", _PATH, _pod(number))
    kept = (daemon.memory_full_info().uss - before) / PODS / 1024

    def made(number: int) -> None:
        api.must("POST", _PATH, _pod(PODS + number))

    def changed(number: int) -> None:
        api.must("PATCH", f"{_PATH}/pod-{number}", {"metadata": {"labels": {"changed": "yes"}}})

    def again(number: int) -> None:
        api.must("PATCH", f"{_PATH}/pod-{number}", {"metadata": {"labels": {"changed": "again"}}})

    create, change = _cost(daemon, made, ROUNDS), _cost(daemon, changed, ROUNDS)
    with contextlib.ExitStack() as stack:
        for _ in range(WATCHERS):
            stack.enter_context(api.watching(f"{_PATH}?watch=1&resourceVersion={api.version(_PATH)}"))
        told = _cost(daemon, again, CHANGES)
    here.kubectl("delete", "namespace", "crowd")
    return [
        Figure(f"a pod is created when {PODS} exist, CPU", create, "ms", None, "", 6.0),
        Figure("… is changed", change, "ms", None, "", 6.0),
        Figure(f"… is changed before {WATCHERS} watchers", told, "ms", change, "before none", 6.0),
        Figure("a stored pod, memory", kept, "KiB", None, "", 40.0),
    ]


def _cost(daemon: psutil.Process, action: Any, rounds: int) -> float:
    began = spent([daemon])
    for number in range(rounds):
        action(number)
    return (spent([daemon]) - began) / rounds * 1000


def _pod(number: int) -> dict[str, Any]:
    """As a Deployment's template has it: ports, a probe, requests, what many write."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "labels": {"app": "crowd", "version": "v1"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [
                {
                    "name": "app",
                    "image": "docker.io/istio/examples-bookinfo-details-v1:1.20.3",
                    "ports": [{"containerPort": 9080}],
                    "env": [{"name": "NUMBER", "value": str(number)}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 9080}},
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }
            ],
        },
    }


class _Api:
    """The sandbox's API over one kept connection, as its kubeconfig says."""

    def __init__(self, here: World) -> None:
        config = json.loads((here.home / "kubeconfig").read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._where = urlsplit(cluster["server"])
        self._trust = ssl.create_default_context(cadata=authority)
        self._token = {"Authorization": f"Bearer {user['token']}"}
        self._connection = self._connected()

    def _connected(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(str(self._where.hostname), self._where.port, context=self._trust)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {**self._token, "Content-Type": kind})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def must(self, method: str, path: str, body: Any) -> None:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {answer.get('message')}")

    def version(self, path: str) -> str:
        return str(self.ask("GET", f"{path}?limit=1")[1]["metadata"]["resourceVersion"])

    @contextlib.contextmanager
    def watching(self, path: str) -> Iterator[None]:
        connection = self._connected()
        connection.request("GET", path, headers=self._token)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status}")
        try:
            yield
        finally:
            connection.close()
