"""The cluster as a pod sees it: lists kept fresh by watches, with the pod's own token."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        self._address = (host, port)
        self._token = token
        self._authority = authority
        self._objects: dict[str, dict[str, Json]] = {name: {} for name in resources}
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

    def _follow(self, name: str, path: str) -> None:
        while True:
            try:
                self._list_and_watch(name, path)
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                # The API server is away, or the watch has grown too old: begin anew.
                pass
            time.sleep(0.5)

    def _get(self, path: str) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        context = ssl.create_default_context(cafile=self._authority or None)
        connection = http.client.HTTPSConnection(*self._address, context=context, timeout=330)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self._token.read_text().strip()}"})
        return connection, connection.getresponse()

    def _list_and_watch(self, name: str, path: str) -> None:
        connection, answer = self._get(path)
        listed = json.loads(answer.read())
        connection.close()
        found = {one["metadata"]["uid"]: one for one in listed["items"]}
        with self._lock:
            self._objects[name] = found
        self._listed[name].set()
        version = listed["metadata"]["resourceVersion"]
        connection, answer = self._get(f"{path}?watch=true&resourceVersion={version}&timeoutSeconds=300")
        try:
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                item = event["object"]
                with self._lock:
                    if event["type"] == "DELETED":
                        found.pop(item["metadata"]["uid"], None)
                    elif event["type"] != "BOOKMARK":
                        found[item["metadata"]["uid"]] = item
        finally:
            connection.close()
