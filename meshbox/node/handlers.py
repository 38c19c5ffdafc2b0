# SPDX-License-Identifier: Apache-2.0
"""What probes and lifecycle hooks do: an HTTP request, a TCP connection, a command."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from labkit.ground.errors import SandboxError
from labkit.ground.int_or_string import named_port
from labkit.ground.numbers import whole
from meshbox.images import ContainerContext
from meshbox.interception import Interception
from meshbox.settings import SandboxSettings

if TYPE_CHECKING:
    from meshbox.typed.containers import Container, HTTPGetAction, LifecycleHandler, Probe

__all__ = ["ActionError", "Target", "act", "port_number", "target_in"]

Exec = Callable[[list[str]], Awaitable[tuple[int, bytes]]]
"""Runs a command in the container: exit code and what it printed."""


class ActionError(SandboxError):
    """The action failed; the message is the kubelet's own."""


class Target(Struct, frozen=True):
    """Where a container's probes and hooks go.

    Args:
        addresses: Where a port may be found, the likely place first.
        shown: The address shown in messages and the Host header: the pod IP.
        port: Turns a container port into the real one.
        execute: Runs a command in the container.
        agent: The User-Agent of HTTP requests.
    """

    addresses: Callable[[int], Sequence[str]]
    shown: str
    port: Callable[[int], int]
    execute: Exec
    agent: str


def target_in(context: ContainerContext, settings: SandboxSettings, execute: Exec) -> Target:
    """Where the probes and hooks of a container go.

    Args:
        context: The container's.
        settings: The sandbox.
        execute: Runs a command in it.
    """
    version = settings.kubernetes_version.removeprefix("v").rpartition(".")[0]
    pod, local = context.pod_ip, context.local_ip
    met: set[int] = set()
    if context.bind != pod:
        # The kubelet is a stranger to the mesh: what it asks meets the sidecar first, which must be there.
        interception = Interception.of(context.pod["spec"])
        ports = [port for one in context.pod["spec"]["containers"] for port in one.get("ports") or []]
        met = {port["containerPort"] for port in ports if interception.takes_inbound(port["containerPort"])}

    def addresses(port: int) -> Sequence[str]:
        return (pod,) if port in met else (pod, local)

    return Target(addresses, pod, settings.plan.port, execute, f"kube-probe/{version}")


def port_number(container: Container, port: int | str) -> int:
    """The number behind a port given by number or by name.

    Raises:
        ActionError: the container has no port of that name.
    """
    number = port if isinstance(port, int) else whole(port)
    if number is not None:
        return number
    if (named := named_port([container], str(port))) is not None:
        return named
    raise ActionError(f'couldn\'t find port: "{port}"')


async def act(action: Probe | LifecycleHandler, container: Container, target: Target) -> None:
    """Do what `action` (a probe's or hook's handler) says.

    Raises:
        ActionError: it did not succeed.
    """
    if command := (action.get("exec") or {}).get("command"):
        code, output = await target.execute(list(command))
        if code:
            text = output.decode(errors="replace").strip()
            raise ActionError(text or f"command {command[0]!r} exited with {code}")
    elif (http := action.get("httpGet")) is not None:
        await _get(http, container, target)
    elif (tcp := action.get("tcpSocket")) is not None:
        await _reach(target, port_number(container, tcp["port"]), tcp.get("host"))
    elif (grpc := cast("Probe", action).get("grpc")) is not None:
        await _reach(target, grpc["port"], None)
    elif (pause := cast("LifecycleHandler", action).get("sleep")) is not None:
        await asyncio.sleep(pause["seconds"])


async def _reach(target: Target, number: int, host: str | None) -> None:
    _, writer = await _connect(target, number, host, None, f"dial tcp {target.shown}:{number}")
    writer.close()


async def _connect(
    target: Target, number: int, host: str | None, tls: ssl.SSLContext | None, what: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    addresses = [host] if host else target.addresses(number)
    for address in addresses:
        # What no listener of the sidecar is for is at the pod's localhost, as what a program binds there only.
        with contextlib.suppress(ConnectionRefusedError):
            try:
                return await asyncio.open_connection(address, target.port(number), ssl=tls)
            except ConnectionRefusedError:
                raise
            except OSError as error:
                raise ActionError(f"{what}: {error.strerror or error}") from error
    raise ActionError(f"{what}: connect: connection refused")


async def _get(http: HTTPGetAction, container: Container, target: Target) -> None:
    number = port_number(container, http["port"])
    scheme, path = http.get("scheme", "HTTP").lower(), http.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    url = f"{scheme}://{http.get('host') or target.shown}:{number}{path}"
    tls = None
    if scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    headers = {"host": f"{target.shown}:{number}", "user-agent": target.agent, "accept": "*/*", "connection": "close"}
    headers |= {item["name"].lower(): item.get("value", "") for item in http.get("httpHeaders") or []}
    lines = [f"GET {path} HTTP/1.1", *(f"{name.title()}: {value}" for name, value in headers.items()), "", ""]
    reader, writer = await _connect(
        target, number, http.get("host"), tls, f'Get "{url}": dial tcp {target.shown}:{number}'
    )
    try:
        writer.write("\r\n".join(lines).encode())
        answer = await reader.readline()
        parts = answer.split(None, 2)
        if len(parts) < 2 or whole(parts[1].decode("latin-1")) is None:
            raise ActionError(f'Get "{url}": EOF' if not answer else f'Get "{url}": malformed HTTP response')
        status = int(parts[1])
        if not 200 <= status < 400:
            raise ActionError(f"HTTP probe failed with statuscode: {status}")
    except OSError as error:
        raise ActionError(f'Get "{url}": read: {(error.strerror or str(error)).lower()}') from error
    except ValueError as error:
        raise ActionError(f'Get "{url}": {error}') from error
    finally:
        writer.close()
