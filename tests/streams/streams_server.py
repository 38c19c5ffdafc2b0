# SPDX-License-Identifier: Apache-2.0
"""As much of an API server as kubectl and the Python client need to reach a pod's streams."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshbox.api.streams import handle
from meshbox.contracts import ApiError, Obj
from tests.conftest import PATIENCE
from tests.streams.streams_runtime import LocalRuntime

_VERBS = ["get", "list", "watch", "create"]
_STREAMS = ["log", "exec", "attach", "portforward"]


def pod(name: str, *containers: str, init: tuple[str, ...] = (), annotations: dict[str, str] | None = None) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-of-{name}", "annotations": annotations or {}},
        "spec": {
            "nodeName": "node",
            "containers": [{"name": c, "image": c} for c in containers],
            "initContainers": [{"name": c, "image": c} for c in init],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": c, "state": {"running": {}}, "ready": True} for c in containers],
            "initContainerStatuses": [{"name": c, "state": {"terminated": {"exitCode": 0}}} for c in init],
        },
    }


def certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


class Server:
    """Runs in a thread, on the event loop that the sandbox uses as well."""

    def __init__(self, folder: Path, context: ssl.SSLContext, authority: Path) -> None:
        self.folder = folder
        self.pods = {
            p["metadata"]["name"]: p
            for p in (
                pod("one", "app"),
                pod("two", "app", "istio-proxy", init=("istio-init",)),
                pod("chosen", "app", "istio-proxy", annotations={"kubectl.kubernetes.io/default-container": "app"}),
            )
        }
        unscheduled = pod("pending", "app")
        del unscheduled["spec"]["nodeName"]
        self.pods["pending"] = unscheduled
        self.loop = uvloop.new_event_loop()
        self.open_requests = 0
        self._context = context
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self.port = 0
        self._thread.start()
        assert self._ready.wait(120)
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "t", "cluster": {"server": self.url, "certificate-authority": str(authority)}}
                    ],
                    "users": [{"name": "t", "user": {"token": "secret"}}],
                    "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
                    "current-context": "t",
                }
            )
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function` on the server's loop."""

        async def run() -> Any:
            result = function(*args)
            return await result if isinstance(result, Coroutine) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        self.runtime = LocalRuntime()
        app = web.Application()
        app.router.add_get("/api", self._versions)
        app.router.add_get("/apis", self._groups)
        app.router.add_get("/api/v1", self._resources)
        app.router.add_get("/api/v1/namespaces/default/pods/{name}", self._pod)
        app.router.add_route("*", "/api/v1/namespaces/default/pods/{name}/{sub}", self._stream)
        self.runner = runner = web.AppRunner(app, shutdown_timeout=1, access_log=None, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        for connection in self.runtime.connections:
            connection.close()
        await self._drop_clients()
        for process in self.runtime.processes:
            await process.end()
        await runner.cleanup()

    async def _drop_clients(self) -> None:
        # The Python client leaves its side of an ended WebSocket open: TLS would wait for it.
        assert self.runner.server is not None
        while self.open_requests or self.runner.server.connections:
            for connection in list(self.runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0.01)

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

    async def _groups(self, request: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroupList", "groups": []})

    async def _resources(self, request: web.Request) -> web.Response:
        resources = [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": _VERBS}]
        resources += [
            {"name": f"pods/{s}", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": _VERBS}
            for s in _STREAMS
        ]
        return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources})

    async def _pod(self, request: web.Request) -> web.Response:
        return web.json_response(self.pods[request.match_info["name"]])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.open_requests += 1
        try:
            return await handle(request, self.runtime, self.pods[request.match_info["name"]], request.match_info["sub"])
        except ApiError as error:
            return web.json_response(error.status(), status=error.code)
        finally:
            self.open_requests -= 1


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether `condition` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
