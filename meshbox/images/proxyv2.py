# SPDX-License-Identifier: Apache-2.0
"""Istio's proxy image: `pilot-agent proxy` is a real Envoy; what sets up iptables says what takes its place."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from labkit.ground import files
from labkit.ground.errors import SandboxError
from meshbox.images.context import ContainerContext, Image, Launch
from meshbox.images.proxy.agent import Agent, seconds
from meshbox.images.proxy.binary import envoy_binary
from meshbox.images.proxy.bootstrap import bootstrap
from meshbox.images.proxy.constants import VARIABLES

__all__ = ["IMAGES"]

_COMMANDS = "meshbox.images.proxy.commands"
_BOOTSTRAP = "/etc/istio/proxy/envoy-rev0.json"
_MINIMUM_DRAIN = 5.0
"""Seconds that a proxy goes on at least that is to end with its last connection."""


def _pilot_agent(context: ContainerContext) -> Launch:
    command = context.argv[1] if len(context.argv) > 1 else ""
    if command == "proxy":
        return _proxy(context)
    entries = {"istio-iptables": "iptables", "request": "request", "wait": "wait", "version": "version"}
    return Launch(entry=f"{_COMMANDS}:{entries.get(command, 'usage')}", argv=context.argv)


def _proxy(context: ContainerContext) -> Launch:
    agent = Agent.of(context)
    file = context.path(_BOOTSTRAP)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write(file, json.dumps(bootstrap(context, agent)).encode(), lasting=False)
    # A pod that is restarted in place must not meet its predecessor's socket.
    with contextlib.suppress(FileNotFoundError):
        context.path("/admin.sock").unlink()
    flags = ["--concurrency", str(agent.concurrency), "--disable-hot-restart", "--log-format", _LOG_FORMAT]
    flags += ["--log-level", agent.log_level]
    if agent.component_log_level:
        flags += ["--component-log-level", agent.component_log_level]
    # Envoy keeps lines of its log for ten seconds otherwise, while somebody waits for them.
    flags += ["--file-flush-interval-msec", "200"]
    # A policy that closes plain connections is meant at once, not in ten minutes.
    flags += ["--drain-time-s", f"{max(1, round(agent.drain_time))}", "--drain-strategy", "immediate"]
    if override := context.env.get("ISTIO_BOOTSTRAP_OVERRIDE"):
        flags += ["--config-yaml", _override(context.path(override))]
    where, minimum = context.local_ip, seconds(context.env.get("MINIMUM_DRAIN_DURATION"), _MINIMUM_DRAIN)

    async def drain() -> None:
        await (_drain_to_the_last(where, minimum) if agent.until_idle else _drain(where, agent.drain))

    argv = (envoy_binary(), "-c", str(file), *flags)
    return Launch(argv=argv, env=dict(VARIABLES), drain=drain if agent.role else None)


_LOG_FORMAT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v"


def _override(file: Path) -> str:
    try:
        return files.read(file).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SandboxError(
            f"the bootstrap override cannot be read: {error}",
            next_step="give the ConfigMap that annotation sidecar.istio.io/bootstrapOverride names a key "
            "custom_bootstrap.json",
        ) from error


async def _drain_to_the_last(local_ip: str, minimum: float) -> None:
    """Ask Envoy to take nothing new, and wait until nobody is connected, for as long as the pod may take to end."""
    with contextlib.suppress(OSError):
        await _admin(local_ip, "POST /drain_listeners?inboundonly&graceful&skip_exit")
        await asyncio.sleep(minimum)
        while await _active(
            local_ip, "^http\\.(inbound|Inbound|outbound).*downstream_cx_active$", "downstream_cx_active"
        ):
            await asyncio.sleep(0.2)


async def _active(local_ip: str, names: str, ending: str) -> bool:
    """Whether one of some gauges is not 0."""
    stats = await _admin(local_ip, f"GET /stats?filter={names}")
    return not all(line.endswith(": 0") for line in stats.splitlines() if ending in line)


async def _drain(local_ip: str, longest: float) -> None:
    """Ask Envoy to take nothing new, and wait until what is in flight has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + longest
    try:
        await _admin(local_ip, "POST /drain_listeners?inboundonly&graceful&skip_exit")
        while loop.time() < deadline:
            names = "^http\\.(inbound|Inbound|outbound).*downstream_rq_active$"
            if not await _active(local_ip, names, "downstream_rq_active"):
                return
            await asyncio.sleep(0.05)
    except OSError:
        # An Envoy that does not answer has nothing in flight that could be waited for.
        return


async def _admin(local_ip: str, request: str) -> str:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(local_ip, 15000), 0.5)
    try:
        headers = "Host: localhost:15000\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        writer.write(f"{request} HTTP/1.1\r\n{headers}".encode())
        answer = await asyncio.wait_for(reader.read(), 1.0)
    except TimeoutError:
        return ""
    finally:
        writer.close()
    return answer.decode(errors="replace")


def _iptables(context: ContainerContext) -> Launch:
    return Launch(entry=f"{_COMMANDS}:iptables", argv=context.argv)


IMAGES = (
    Image(
        repositories=("istio/proxyv2", "istio-release/proxyv2", "release/proxyv2", "istio-testing/proxyv2"),
        entrypoint=("/usr/local/bin/pilot-agent",),
        programs={"pilot-agent": _pilot_agent},
        size=107_000_000,
        stands_in="Envoy is the real one; pilot-agent's other commands stand in",
    ),
    Image(
        repositories=("istio/proxy_init", "istio-release/proxy_init", "release/proxy_init"),
        entrypoint=("/usr/local/bin/istio-iptables.sh",),
        programs={"istio-iptables.sh": _iptables, "istio-iptables": _iptables},
        size=5_000_000,
        stands_in="sets up nothing: the sandbox captures traffic without iptables",
    ),
)
