# SPDX-License-Identifier: Apache-2.0
"""The cluster's names as a file, which the pods' processes read in place of asking a DNS server.

{"services": {"reviews.bookinfo": {"ip": "127.20.16.5", "ports": [9080, 3306], "raw": [3306]}},
 "headless": {"istio-system/jaeger-agent": ["127.20.64.7"]},
 "external": {"bookinfo/books": "www.example.com"},
 "pods": {"db-0.db.bookinfo": "127.20.64.9"},
 "entries": {"api.example.com": "240.240.0.1"}}

"pods" are those of headless Services that have names of their own. "entries" are hosts of ServiceEntries, which only a
sidecar knows that answers its pod's DNS. "raw" are the ports that Istio takes for something else than HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from labkit.ground import files
from labkit.ground.names import is_ip
from meshbox.contracts import Event, Obj, Objects
from meshbox.node.proxy import SLICES, ready_addresses, ready_pods, service_key
from meshbox.port_protocols import is_raw, protocol_of
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["Names"]

log = logging.getLogger(__name__)

ENTRIES = "serviceentries.networking.istio.io"

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
        self._entries: dict[Key, dict[str, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._written = b""
        self._reconciler = (
            Reconciler("names", objects, self._reconcile)
            .watches("services")
            .watches(SLICES, service_key)
            .watches("endpoints")
            .watches_events(ENTRIES, self._entry)
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

    def _entry(self, event: Event) -> list[Key]:
        """Take note of a ServiceEntry's hosts; there is no Service to look at."""
        key = object_key(event.object)
        hosts = {} if event.type == "DELETED" else _addresses(event.object)
        if hosts != self._entries.get(key, {}):
            self._entries[key] = hosts
            self._soon()
        return []

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
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self._write)

    def _protocol(self, port: Obj) -> str:
        declared, transport = port.get("appProtocol") or "", port.get("protocol", "TCP")
        return protocol_of(port.get("name") or "", port["port"], declared, transport=transport, legacy=self._legacy)

    def _write(self) -> None:
        self._timer = None
        content = {
            "services": self._services,
            "headless": self._headless,
            "external": self._external,
            "pods": {name: address for named in self._pods.values() for name, address in named.items()},
            "entries": {host: ip for hosts in self._entries.values() for host, ip in hosts.items()},
        }
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


def _addresses(entry: Obj) -> dict[str, str]:
    """The hosts of a ServiceEntry with the address that each has, or was given."""
    spec = entry.get("spec") or {}
    own = [text for text in spec.get("addresses") or [] if is_ip(text) and ":" not in text]
    hosts = {str(host).lower() for host in spec.get("hosts") or [] if "*" not in host}
    if own:
        return dict.fromkeys(sorted(hosts), own[0])
    found: dict[str, str] = {}
    for one in (entry.get("status") or {}).get("addresses") or []:
        host, address = str(one.get("host", "")).lower(), str(one.get("value", ""))
        if host in hosts and ":" not in address:
            found.setdefault(host, address)
    return found
