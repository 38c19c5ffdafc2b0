# SPDX-License-Identifier: Apache-2.0
"""The cluster as a pod sees it: lists kept fresh by watches, with the pod's own token."""

from __future__ import annotations

import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.ground.client import Connections

__all__ = ["Cluster"]

Json = dict[str, Any]


class Cluster:
    """Objects of some resources, up to date.

    Args:
        host: The API server's host.
        port: Its port.
        token: File of a bearer token, read for each request: tokens are replaced.
        authority: File of the CA that signed its certificate; "" trusts nobody.
        resources: Name → path, e.g. {"pod": "/api/v1/pods"}.
    """

    def __init__(self, host: str, port: int, token: Path, authority: str, resources: Mapping[str, str]) -> None:
        self._connections = Connections(host, port, 330, trust=self._trust)
        self._token = token
        self._authority = authority
        self._objects: dict[str, dict[str, Json]] = {name: {} for name in resources}
        self._heard = dict.fromkeys(resources, 0)
        self._lock = threading.Lock()
        self._listed = {name: threading.Event() for name in resources}
        for name, path in resources.items():
            threading.Thread(target=self._follow, args=(name, path), daemon=True, name=f"watch {name}").start()

    @classmethod
    def of_pod(cls, resources: Mapping[str, str]) -> Cluster:
        """With what every pod is given: the API server's address, the account's token and the CA."""
        folder = Path(os.environ["LABKIT_ROOT"]) / "var/run/secrets/kubernetes.io/serviceaccount"
        port = int(os.environ["KUBERNETES_SERVICE_PORT"])
        host = os.environ["KUBERNETES_SERVICE_HOST"]
        return cls(host, port, folder / "token", str(folder / "ca.crt"), resources)

    def objects(self) -> dict[str, list[Json]]:
        """All objects known now, by the resource's name; waits up to 5 s for the first lists."""
        for listed in self._listed.values():
            listed.wait(5)
        with self._lock:
            return {name: list(found.values()) for name, found in self._objects.items()}

    def heard(self) -> dict[str, int]:
        """How often each resource has changed, to be compared with what was told before."""
        with self._lock:
            return dict(self._heard)

    def _follow(self, name: str, path: str) -> None:
        while True:
            try:
                self._list_and_watch(name, path)
            except (OSError, ValueError, KeyError):
                # The API server is away, or the watch has grown too old: begin anew.
                pass
            time.sleep(0.5)

    def _refused(self, name: str, path: str, body: bytes) -> None:
        """The pod's account has no right to it, or it is not served: there are none, and the log says so once."""
        if not self._listed[name].is_set():
            print(f"{path} cannot be listed: {json.loads(body).get('message')}", file=sys.stderr, flush=True)
        self._listed[name].set()

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._authority or None)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.read_text().strip()}", "Connection": "close"}

    def _list_and_watch(self, name: str, path: str) -> None:
        answer = self._connections.request("GET", path, self._headers())
        if answer.status in (403, 404):
            self._refused(name, path, answer.body)
            return
        listed = json.loads(answer.body)
        found = {one["metadata"]["uid"]: one for one in listed["items"]}
        with self._lock:
            # A watch ends every few minutes; that it is begun anew is no news.
            self._heard[name] += found != self._objects[name]
            self._objects[name] = found
        self._listed[name].set()
        version = listed["metadata"]["resourceVersion"]
        query = f"watch=true&resourceVersion={version}&timeoutSeconds=300"
        with self._connections.stream(f"{path}?{query}", self._headers()) as (_status, readline):
            while line := readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                item = event["object"]
                if event["type"] == "BOOKMARK":
                    continue
                with self._lock:
                    self._heard[name] += 1
                    if event["type"] == "DELETED":
                        found.pop(item["metadata"]["uid"], None)
                    else:
                        found[item["metadata"]["uid"]] = item
