# SPDX-License-Identifier: Apache-2.0
"""A small mesh with real Envoys: the control plane under test, and applications of a few lines each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.doors import CAPTURE_SOCKET
from meshbox.images import ContainerContext, ImageName, find, launch
from meshbox.mesh import Mesh
from meshbox.mesh.inject.proxy_config import effective, told

from .cluster import Cluster

Obj = dict[str, Any]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

DEADLINE = 240.0
"""Seconds a wait may take on a busy machine."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class App:
    """An application: answers JSON that says who it is and what it was asked."""

    name: str
    status: int = 200
    delay: float = 0.0
    gate: asyncio.Event | None = None
    """Where there is one, no answer is given before it is set."""
    count: int = 0
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ", 2)
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
                if length := int(headers.get("content-length", 0)):
                    await reader.readexactly(length)
                self.count += 1
                self.seen.append((method, path, headers))
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.gate is not None:
                    await self.gate.wait()
                body = json.dumps({"app": self.name, "path": path, "headers": headers}).encode()
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                    f"x-app: {self.name}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()


@dataclass
class Pod:
    """A pod of the world: its object, its addresses, its processes."""

    obj: Obj
    ip: str
    local: str
    app: App | None = None
    server: asyncio.Server | None = None
    envoy: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    capture: Path | None = None

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])


class World:
    """Objects, mesh, pods."""

    def __init__(self, home: Path, plan: AddressPlan, release: str) -> None:
        self.objects = Cluster(home, release, plan)
        self.settings = self.objects.settings
        self.mesh = Mesh(self.objects, self.settings)
        self.objects.validate(self.mesh.admission)
        self.pods: dict[str, Pod] = {}
        self._numbers = 0

    async def start(self) -> None:
        await self.mesh.start()
        self.mesh_config(accessLogFile="/dev/stdout")
        self.pilot(ready=True)

    async def stop(self) -> None:
        for pod in self.pods.values():
            if pod.envoy is not None:
                pod.envoy.kill()
        for pod in self.pods.values():
            if pod.envoy is not None:
                pod.envoy.wait()
            if pod.server is not None:
                pod.server.close()
        await self.mesh.stop()
        self.objects.close()

    def pilot(self, *, ready: bool) -> None:
        """A control plane's pod."""
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        meta: Obj = {"name": "pilot-0", "namespace": "istio-system", "labels": {"istio": "pilot"}}
        pod = self.objects.find("pods", meta["name"], meta["namespace"])
        pod = pod or {"metadata": meta, "spec": {"containers": [{"name": "discovery", "image": "istio/pilot"}]}}
        self.objects.put("pods", {**pod, "status": {"phase": "Running", "conditions": conditions}})

    def mesh_config(self, **settings: Any) -> None:
        data = {"mesh": json.dumps(settings)}
        self.objects.put("configmaps", {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": data})

    def service(
        self,
        name: str,
        ports: list[Obj] | None = None,
        namespace: str = "bookinfo",
        selector: Obj | None = None,
        **spec: Any,
    ) -> str:
        """A Service and its endpoints; returns the ClusterIP."""
        ports = ports or [{"name": "http", "port": 9080}]
        spec = {"ports": ports, "selector": selector or {"app": name}, **spec}
        made = self.objects.put("services", {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
        self.slice(name, namespace)
        return str(made["spec"]["clusterIP"])

    def slice(self, name: str, namespace: str = "bookinfo") -> None:
        """Bring a Service's endpoints up to date."""
        spec = self.objects.get("services", name, namespace)["spec"]
        chosen = [
            pod
            for pod in self.pods.values()
            if pod.obj["metadata"]["namespace"] == namespace
            and all(pod.obj["metadata"]["labels"].get(k) == v for k, v in spec["selector"].items())
        ]
        addresses: list[Obj] = [{"ip": p.ip, "targetRef": {"kind": "Pod", "name": p.name}} for p in chosen]
        ports: list[Obj] = [{"name": p.get("name", ""), "port": p["targetPort"]} for p in spec["ports"]]
        self.objects.serve(name, addresses, ports, namespace)

    def istio(
        self, kind: str, name: str, spec: Obj, namespace: str = "bookinfo", annotations: Obj | None = None
    ) -> Obj:
        """An object of Istio's."""
        plural, group = {
            "VirtualService": ("virtualservices", "networking"),
            "DestinationRule": ("destinationrules", "networking"),
            "Gateway": ("gateways", "networking"),
            "ServiceEntry": ("serviceentries", "networking"),
            "WorkloadEntry": ("workloadentries", "networking"),
            "Sidecar": ("sidecars", "networking"),
            "EnvoyFilter": ("envoyfilters", "networking"),
            "PeerAuthentication": ("peerauthentications", "security"),
            "AuthorizationPolicy": ("authorizationpolicies", "security"),
            "RequestAuthentication": ("requestauthentications", "security"),
            "Telemetry": ("telemetries", "telemetry"),
            "TrafficExtension": ("trafficextensions", "extensions"),
            "Policy": ("policies", "authentication"),
            "MeshPolicy": ("meshpolicies", "authentication"),
            "ClusterRbacConfig": ("clusterrbacconfigs", "rbac"),
            "ServiceRole": ("serviceroles", "rbac"),
            "ServiceRoleBinding": ("servicerolebindings", "rbac"),
        }[kind]
        meta: Obj = {"name": name}
        if kind not in ("MeshPolicy", "ClusterRbacConfig"):
            meta["namespace"] = namespace
        if annotations:
            meta["annotations"] = annotations
        return self.objects.put(f"{plural}.{group}.istio.io", {"metadata": meta, "spec": spec})

    def remove(self, kind_plural: str, name: str, namespace: str = "bookinfo") -> None:
        self.objects.drop(kind_plural, name, namespace)

    async def pod(
        self,
        name: str,
        labels: Obj,
        *,
        namespace: str = "bookinfo",
        ports: tuple[int, ...] = (9080,),
        role: str = "sidecar",
        account: str = "",
        app: App | None = None,
        unprivileged: bool = False,
        annotations: dict[str, str] | None = None,
    ) -> Pod:
        """A pod with an application and, unless `role` is "", a real Envoy; given `annotations`, set up as injected."""
        self._numbers += 1
        plan = self.settings.plan
        ip = str(plan.pod_cidr[self._numbers])
        containers = [{"name": "app", "image": "app", "ports": [{"containerPort": port} for port in ports]}]
        image = f"istio/proxyv2:{self.settings.release}"
        proxy: Obj = {"name": "istio-proxy", "image": image, "args": ["proxy", role], "env": []}
        if unprivileged:
            proxy["env"].append({"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"})
        if role == "router":
            containers = []
        if role:
            containers.append(proxy)
        obj = {
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations or {}},
            "spec": {"serviceAccountName": account or f"{labels.get('app', name)}-sa", "containers": containers},
            "status": {"phase": "Running", "podIP": ip},
        }
        if annotations is not None:
            mesh = json.loads(self.objects.get("configmaps", "istio", "istio-system")["data"]["mesh"])
            settings = told(effective(self.objects, mesh, namespace, obj, "istio-system"))
            proxy["env"].append({"name": "PROXY_CONFIG", "value": settings})
        pod = Pod(self.objects.put("pods", obj), ip, plan.local(ip), app)
        self.pods[name] = pod
        for service in self.objects.list("services", namespace):
            if service["spec"].get("selector"):
                self.slice(service["metadata"]["name"], namespace)
        if app is not None:
            host = pod.local if role else pod.ip
            for port in ports:
                pod.server = await asyncio.start_server(app.serve, host, plan.port(port))
        if role:
            self._start_envoy(pod, proxy)
        return pod

    def proxy_context(self, obj: Obj, proxy: Obj, root: Path) -> ContainerContext:
        """What the container `proxy` of a pod is started with; `root` is its folder."""
        pod = self.pods[obj["metadata"]["name"]]
        return ContainerContext(
            pod=obj,
            container=proxy,
            image=ImageName.parse(proxy["image"]),
            argv=("pilot-agent", *proxy["args"]),
            env={one["name"]: one["value"] for one in proxy.get("env", [])},
            settings=self.settings,
            pod_ip=pod.ip,
            local_ip=pod.local,
            bind=pod.ip,
            root=root,
        )

    def _start_envoy(self, pod: Pod, proxy: Obj) -> None:
        root = self.settings.home / "pods" / pod.name
        root.mkdir(parents=True, exist_ok=True)
        context = self.proxy_context(pod.obj, proxy, root)
        image = find(proxy["image"])
        assert image is not None
        started = launch(image, context)
        pod.log, pod.capture = root / "log", root / CAPTURE_SOCKET
        with open(pod.log, "ab") as log:
            pod.envoy = subprocess.Popen(
                started.argv,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **started.env},
            )

    async def ready(self, *names: str) -> None:
        """Wait until the proxies of these pods (default: all) are ready."""
        for pod in self.pods.values():
            if pod.envoy is not None and (not names or pod.name in names):
                await self.until(lambda pod=pod: self._is_ready(pod), f"{pod.name} is ready")  # type: ignore[misc]

    async def _is_ready(self, pod: Pod) -> bool:
        assert pod.envoy is not None
        assert pod.log is not None
        assert pod.envoy.poll() is None, pod.log.read_text()[-3000:]
        with contextlib.suppress(OSError):
            return (await self.http(pod.ip, 15020, "/healthz/ready")).status == 200
        return False

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition; it may be a coroutine function. Nobody looks for twice as long as a look takes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE
        while True:
            began = loop.time()
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            now = loop.time()
            assert now < deadline, f"not in {DEADLINE} s: {what}"
            await asyncio.sleep(min(max(0.005, 2 * (now - began)), 0.1))

    async def listening(self, host: str, port: int, *, taken: bool = True) -> None:
        """Wait until connections to an address are taken, or are no more: a listener may go late."""

        async def so() -> bool:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return not taken
            except ConnectionResetError:
                # It goes in this moment, with the connections that nobody has taken yet.
                return False
            writer.close()
            return taken

        await self.until(so, f"{host}:{port} {'takes' if taken else 'refuses'} connections")

    async def http(
        self,
        host: str,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        tls: Any = None,
        server_hostname: str | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        streams = await asyncio.open_connection(host, port, ssl=tls, server_hostname=server_hostname if tls else None)
        return await self._ask(*streams, path, method, {"host": f"{host}:{port}", **(headers or {})})

    async def captured(self, source: str, host: str, port: int) -> Streams:
        """A connection of the application in pod `source` to an address, captured as the shim does it."""
        pod = self.pods[source]
        assert pod.capture is not None
        reader, writer = await asyncio.open_unix_connection(pod.capture)
        writer.write(f"PROXY TCP4 {pod.ip} {host} 40000 {port}\r\n".encode())
        return reader, writer

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        method: str,
        headers: dict[str, str],
    ) -> Reply:
        try:
            fields = {"connection": "close", **headers}
            text = "".join(f"{k}: {v}\r\n" for k, v in fields.items())
            writer.write(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode())
            async with asyncio.timeout(DEADLINE):
                return await _reply(reader)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("no whole answer") from error
        finally:
            writer.close()

    async def call(
        self,
        source: str,
        host: str,
        path: str = "/",
        *,
        port: int = 9080,
        namespace: str = "bookinfo",
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """What an application in pod `source` gets from ``http://host:port/path``, captured as the shim does it."""
        service = self.objects.find("services", host.split(".")[0], namespace)
        # A host that is no Service resolves to some address outside.
        target = service["spec"]["clusterIP"] if service else host if host[0].isdigit() else "10.9.9.9"
        streams = await self.captured(source, target, port)
        return await self._ask(*streams, path, method, {"host": f"{host}:{port}", **(headers or {})})


async def _reply(reader: asyncio.StreamReader) -> Reply:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    found = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
    if found.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    else:
        # Not until the end: Envoy keeps a connection it has done with for a second.
        body = await reader.readexactly(int(found.get("content-length", 0)))
    return Reply(int(lines[0].split()[1]), found, body)
