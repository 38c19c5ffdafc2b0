# SPDX-License-Identifier: Apache-2.0
"""What curl is told so that it finds the cluster: run by ``bin/curl``, which stands before the real one on PATH.

curl cannot load `sitecustomize`. It gets a configuration of its own instead: behind a sidecar the sidecar is its HTTP
proxy; without one, Services' names lead to their addresses; "localhost" is the pod's own. Options of the command line
come later and win.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Targets", "configuration", "main", "program", "raw_targets", "where", "written_out"]

Targets = dict[tuple[str, int], tuple[str, int]]
"""Host and port as curl is given them → the address and the port where they lead."""


_URL = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?:[^@/]*@)?(?P<host>[A-Za-z0-9.-]+)(?::(?P<port>\d+))?(?:[/?#]|$)")
_SHORT_HEADER = re.compile(r"-[A-Za-z#0-9]*?H(.*)", re.DOTALL)
_SHORT_FILE = re.compile(r"-[A-Za-z#0-9]*?K(.*)", re.DOTALL)
_SETTING = re.compile(r'\s*-{0,2}(?P<name>[^\s=:#]+)(?:\s*[=:\s]\s*(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>\S+)))?')
_LOOPBACK = ("localhost", "127.0.0.1")
_PORTS = {"http": 80, "https": 443, "telnet": 23}


def configuration(
    env: Mapping[str, str], arguments: list[str], relays: Mapping[tuple[str, int], int] | None = None
) -> list[str]:
    """The lines of curl's configuration.

    Args:
        env: The container's environment.
        arguments: curl's own arguments, in which ports of localhost are looked for.
        relays: Host and port of what is no HTTP to the sidecar → port of the pod's localhost that leads there.
    """
    local = env["LABKIT_LOCAL_IP"]
    behind = bool(env.get("LABKIT_CAPTURE"))
    # Without a sidecar applications bind the pod IP.
    own = local if behind or not _application(env) else env.get("LABKIT_POD_IP", local)
    shift = int(env.get("LABKIT_LOW_PORT_SHIFT") or 0)
    # Names that curl is told to look for at localhost are the pod's own as well.
    home = [*_LOOPBACK, *(host for host, _, other, _ in _steered(arguments) if other in _LOOPBACK and host.strip("*"))]
    direct = [*home, local, *(host for host, _ in relays or {})]
    lines: list[str] = []
    if behind and env.get("LABKIT_INTERCEPTION"):
        left = dict(_left_alone(env, arguments, shift))
        direct += [host for host, _ in left if host not in direct]
        lines = [line for line in left.values() if line]
    if behind:
        direct += sorted(_nobodys(env, arguments).difference(direct))
    lines += [f'noproxy = "{",".join(direct)}"']
    lines += [f'connect-to = "{host}:{port}:{local}:{at}"' for (host, port), at in (relays or {}).items()]
    for name in home:
        for port in _low_ports(arguments) if shift else ():
            lines.append(f'connect-to = "{name}:{port}:{own}:{port + shift}"')
        lines.append(f'connect-to = "{name}::{own}:"')
    if behind:
        # Elsewhere there is no proxy to be seen, nor what it says to a tunnel.
        return [*lines, f'proxy = "http://{env["LABKIT_CAPTURE"]}"', "suppress-connect-headers"]
    return [*lines, *_names(env, shift), *_addresses(local, arguments, shift)]


def _left_alone(env: Mapping[str, str], arguments: list[str], shift: int) -> Iterator[tuple[tuple[str, int], str]]:
    """The hosts and ports that the sidecar leaves alone, with the lines that lead there."""
    interception = importlib.import_module("labkit_captured").interception(env["LABKIT_INTERCEPTION"])
    addresses = where(env)
    block = ".".join(env["LABKIT_LOCAL_IP"].split(".")[:2]) + "."
    for host, port in _asked(arguments):
        if host in _LOOPBACK:
            if interception.leaves(port):
                real = port + shift if port < 1024 else port
                yield (host, port), f'connect-to = "{host}:{port}:{env["LABKIT_POD_IP"]}:{real}"'
            continue
        # Where a name outside leads is not known here: it is in no range.
        address = addresses.get(host) or host
        if not interception.takes_outbound(address, port):
            real = port + shift if port < 1024 else port
            inside = address.startswith(block)
            yield (host, port), f'connect-to = "{host}:{port}:{address}:{real}"' if inside else ""


def where(env: Mapping[str, str]) -> dict[str, str]:
    """The names that Services and pods have in this pod, each with its address."""
    content = _cluster(env)
    found = {form: entry["ip"] for key, entry in content.get("services", {}).items() for form in _forms(key, env)}
    for full, pods in content.get("headless", {}).items():
        namespace, _, name = full.partition("/")
        found |= dict.fromkeys(_forms(f"{name}.{namespace}", env), next(iter(pods), ""))
    for full, address in content.get("pods", {}).items():
        pod, _, service = full.partition(".")
        found |= {f"{pod}.{form}": address for form in _forms(service, env)}
    return found


def _nobodys(env: Mapping[str, str], arguments: list[str]) -> set[str]:
    """Names that only the cluster's DNS could know, and does not: curl is to say so, not the sidecar by a 503."""
    content = _cluster(env)
    known = {name.lower() for name in where(env)}
    if env.get("LABKIT_DNS_CAPTURE") == "true":
        known |= {name.lower() for name in content.get("entries", {})}
    for full in content.get("external", {}):
        namespace, _, name = full.partition("/")
        known.update(_forms(f"{name}.{namespace}", env))
    asked = {host for host, _ in _asked(arguments) if host != "localhost" and content}
    inside = {host for host in asked if "." not in host or host.rstrip(".").endswith((".svc", ".svc.cluster.local"))}
    return {host for host in inside if host.rstrip(".").lower() not in known}


def _asked(arguments: list[str]) -> set[tuple[str, int]]:
    """The hosts and ports that curl is given."""
    named = [match for argument in arguments if (match := _URL.match(argument))]
    asked = {(m["host"], int(m["port"] or _PORTS.get(m["scheme"] or "http", 0))) for m in named}
    return {(host, port) for host, port in asked if not host.startswith("-")}


def _pairs(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Each argument with the one after it; the last with none."""
    return zip(arguments, [*arguments, ""][1:], strict=True)


def written_out(arguments: list[str]) -> list[str]:
    """curl's arguments, with what the files say that it is to read more of them from (`-K FILE`)."""
    found: list[str] = []
    for one, following in _pairs(arguments):
        found.append(one)
        short = _SHORT_FILE.fullmatch(one)
        if one != "--config" and short is None:
            continue
        try:
            # What is read from the standard input is curl's own to read.
            with open((short[1] if short is not None else "") or following, encoding="utf-8") as file:
                settings = [match for line in file if (match := _SETTING.match(line))]
        except (OSError, ValueError):
            continue
        for setting in settings:
            name, quoted = setting["name"], setting["quoted"]
            value = setting["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            name = f"-{name}" if len(name) == 1 else f"--{name}"
            found += [one for one in (None if name == "--url" else name, value) if one is not None]
    return found


def program(name: str) -> str:
    """The machine's own program of that name: not the one that stands before it."""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
    path = os.pathsep.join(p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p != here)
    real = shutil.which(name, path=path)
    if real is None:
        print(f"{name}: this machine has no {name}", file=sys.stderr)
        sys.exit(127)
    return real


def _addresses(local: str, arguments: list[str], shift: int) -> Iterator[str]:
    """Low ports of the addresses that curl is given: those of this sandbox's pods and Services."""
    block = ".".join(local.split(".")[:2]) + "."
    for host, port in _asked(arguments):
        if shift and host.startswith(block) and 0 < port < 1024:
            yield f'connect-to = "{host}:{port}:{host}:{port + shift}"'


def _application(env: Mapping[str, str]) -> bool:
    """Whether this is an application's container: the proxy's own talks to what listens at the pod's localhost."""
    return "proxyv2" not in env.get("LABKIT_IMAGE", "")


def _low_ports(arguments: list[str]) -> set[int]:
    found = {80, 443}
    for argument in arguments:
        found |= {int(port) for port in re.findall(r"(?:localhost|127\.0\.0\.1):(\d{1,3})\b", argument)}
    return found


def _cluster(env: Mapping[str, str]) -> dict[str, Any]:
    """The cluster's names; empty where nobody wrote them."""
    return _read(env.get("LABKIT_DNS", ""))


@functools.cache
def _read(file: str) -> dict[str, Any]:
    # Several questions of one curl are answered from it.
    try:
        with open(file, encoding="utf-8") as names:
            return dict(json.load(names))
    except (OSError, ValueError):
        return {}


def raw_targets(env: Mapping[str, str], arguments: list[str]) -> Targets:
    """The hosts and ports among curl's arguments to which it is led as any other program is: to their own listener.

    These are such that the sidecar takes for something else than HTTP: its HTTP proxy could tunnel to them at best, and
    would count what goes through as HTTP. And all of them where curl is asked for what a proxy does not pass on:
    another Host than the URL's, HTTP/2 from the first byte, an address of one's own for a name, TLS to the cluster's.
    """
    left = dict(_left_alone(env, arguments, 0)) if env.get("LABKIT_INTERCEPTION") else {}
    asked = _asked(arguments) - left.keys()
    found: Targets = {}
    for key, entry in _cluster(env).get("services", {}).items():
        forms, raw = {*_forms(key, env), entry["ip"]}, entry.get("raw", ())
        found |= {(host, port): (entry["ip"], port) for host, port in asked if host in forms and port in raw}
    # What says where something leads counts before what only says that it is not to be changed.
    steered = sorted(_steered(arguments), key=lambda one: not (one[2] or one[3]))
    secure = {(m["host"], int(m["port"] or 443)) for m in map(_URL.match, arguments) if m and m["scheme"] == "https"}
    if not steered and not secure:
        return found
    addresses, block = where(env), ".".join(env["LABKIT_LOCAL_IP"].split(".")[:2]) + "."
    for host, port in asked - found.keys():
        to, at = host, port
        for name, number, other, other_port in steered:
            if name in ("", "*", host) and number in ("", str(port)):
                to, at = other or host, int(other_port or port)
                break
        else:
            # TLS is bytes for the sidecar, whatever the port is called: it would make a tunnel for none of these.
            if (host, port) not in secure:
                continue
        address = addresses.get(to, to)
        if address.startswith(block) and host not in _LOOPBACK:
            found[host, port] = address, at
    return found


def _steered(arguments: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """What curl is told that its HTTP proxy would not pass on: a host, a port, and the others that it means by them.

    A host of "" is any, another one of "" the same.
    """
    for one, following in _pairs(arguments):
        short = _SHORT_HEADER.fullmatch(one)
        if one == "--resolve" and (parts := following.lstrip("+").split(":", 2))[2:]:
            yield parts[0], parts[1], parts[2].split(",")[0], ""
        elif one == "--connect-to" and len(parts := following.split(":")) == 4:
            yield parts[0], parts[1], parts[2], parts[3]
        elif one == "--http2-prior-knowledge":
            yield "", "", "", ""
        elif one == "--header" or short is not None:
            header = (short[1] if short is not None else "") or following
            if header.lower().startswith("host:"):
                yield "", "", "", ""


def _names(env: Mapping[str, str], shift: int) -> Iterator[str]:
    content = _cluster(env)
    for key, entry in content.get("services", {}).items():
        low = [port for port in entry["ports"] if shift and port < 1024]
        for name in (*_forms(key, env), entry["ip"]):
            for port in low:
                yield f'connect-to = "{name}:{port}:{entry["ip"]}:{port + shift}"'
            if name != entry["ip"]:
                yield f'connect-to = "{name}::{entry["ip"]}:"'
    for table in ("headless", "external"):
        for full, target in content.get(table, {}).items():
            namespace, _, name = full.partition("/")
            where = _resolved(content, target) if isinstance(target, str) else next(iter(target), "")
            if where:
                yield from (f'connect-to = "{form}::{where}:"' for form in _forms(f"{name}.{namespace}", env))
    for full, where in content.get("pods", {}).items():
        pod, _, service = full.partition(".")
        yield from (f'connect-to = "{pod}.{form}::{where}:"' for form in _forms(service, env))


def _resolved(content: Mapping[str, Any], target: str) -> str:
    """The address of the Service that an ExternalName stands for; a name of the world outside stays."""
    key = target.rstrip(".").lower().removesuffix(".cluster.local").removesuffix(".svc")
    name, _, namespace = key.partition(".")
    service, headless = content.get("services", {}).get(key), content.get("headless", {}).get(f"{namespace}/{name}")
    return str(service["ip"] if service else next(iter(headless or ()), target))


def _forms(key: str, env: Mapping[str, str]) -> list[str]:
    """The names of the Service "name.namespace" in this pod."""
    name, _, namespace = key.partition(".")
    forms = [key, f"{key}.svc", f"{key}.svc.cluster.local"]
    return [name, *forms] if namespace == env.get("LABKIT_NAMESPACE") else forms


def main() -> None:
    """Become the real curl."""
    arguments = sys.argv[1:]
    real = program("curl")
    given: list[str] = []
    if os.environ.get("LABKIT_LOCAL_IP"):
        relays, seen = {}, written_out(arguments)
        if os.environ.get("LABKIT_CAPTURE") and (targets := raw_targets(os.environ, seen)):
            # Only now: almost every call of curl is HTTP, and has no use for it.
            relays = importlib.import_module("raw_relay").start(os.environ, targets)
        text = "\n".join(configuration(os.environ, seen, relays)) + "\n"
        descriptor = os.memfd_create("curlrc", 0)
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        given = ["-K", f"/dev/fd/{descriptor}"]
    # -q has to be the first of all.
    first = 1 if arguments[:1] in (["-q"], ["--disable"]) else 0
    os.execv(real, ["curl", *arguments[:first], *given, *arguments[first:]])


if __name__ == "__main__":
    main()
