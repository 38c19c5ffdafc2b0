# SPDX-License-Identifier: Apache-2.0
"""The cluster's names as a file, which the pods' processes read in place of asking a DNS server.

{"services": {"reviews.bookinfo": {"ip": "127.20.16.5", "ports": [9080, 3306], "raw": [3306]}},
 "headless": {"istio-system/jaeger-agent": ["127.20.64.7"]},
 "external": {"bookinfo/books": "www.example.com"},
 "pods": {"db-0.db.bookinfo": "127.20.64.9"}}

"pods" are those of headless Services that have names of their own. "raw" are the ports that Istio takes for something
else than HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from labkit.ground import files
from meshbox.contracts import Obj, Objects
from meshbox.node.proxy import SLICES, ready_addresses, ready_pods, service_key
from meshbox.port_protocols import is_raw, protocol_of
from meshbox.reconcile import Key, Reconciler

__all__ = ["Names"]

log = logging.getLogger(__name__)

_TOGETHER = 0.005
"""Seconds in which changes are written together."""


class Names:
    """Keeps the file.

    Args:
        objects: The cluster's objects.
        file: Where it is; replaced in one step on every change.
        legacy: Whether ports are understood as by Istio 1.2.
    """

    def __init__(self, objects: Objects, file: Path, *, legacy: bool) -> None:
        self.file = file
        self._legacy = legacy
        self._objects = objects
        self._services: dict[str, Obj] = {}
        self._headless: dict[str, list[str]] = {}
        self._external: dict[str, str] = {}
        self._pods: dict[Key, dict[str, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._written = b""
        self._reconciler = (
            Reconciler("names", objects, self._reconcile)
            .watches("services")
            .watches(SLICES, service_key)
            .watches("endpoints")
        )

    def start(self) -> None:
        """Write the file, and begin to follow Services."""
        self._write()
        self._reconciler.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._reconciler.stop()
        if self._timer is not None:
            self._timer.cancel()

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        service = self._objects.find("services", name, namespace)
        short, full = f"{name}.{namespace}", f"{namespace}/{name}"
        spec = service["spec"] if service else {}
        for table in (self._services, self._headless, self._external):
            table.pop(short if table is self._services else full, None)
        self._pods.pop(key, None)
        if spec.get("type") == "ExternalName":
            self._external[full] = spec.get("externalName", "")
        elif spec.get("clusterIP") == "None":
            self._headless[full] = sorted({address for address, _ in ready_addresses(self._objects, key)})
            named = {f"{hostname}.{short}": address for hostname, address in ready_pods(self._objects, key)}
            if named:
                self._pods[key] = named
        elif ip := spec.get("clusterIP"):
            ports = spec.get("ports") or []
            raw = [port["port"] for port in ports if is_raw(self._protocol(port))]
            self._services[short] = {"ip": ip, "ports": [port["port"] for port in ports], "raw": raw}
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self._write)

    def _protocol(self, port: Obj) -> str:
        declared, transport = port.get("appProtocol") or "", port.get("protocol", "TCP")
        return protocol_of(port.get("name") or "", port["port"], declared, transport=transport, legacy=self._legacy)

    def _write(self) -> None:
        self._timer = None
        pods = {name: address for named in self._pods.values() for name, address in named.items()}
        content = {"services": self._services, "headless": self._headless, "external": self._external, "pods": pods}
        data = json.dumps(content, sort_keys=True).encode()
        if data == self._written:
            return
        try:
            files.write(self.file, data, lasting=False)
        except OSError as error:
            # The disk is full: the old names go on; the next change tries again.
            log.warning("cannot write %s: %s", self.file, error.strerror)
            return
        self._written = data
