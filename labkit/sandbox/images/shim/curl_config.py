"""What curl is told so that it finds the cluster: run by ``bin/curl``, which stands before the real one on PATH.

curl cannot load `sitecustomize`. It gets a configuration of its own instead: behind a sidecar the sidecar is its HTTP
proxy; without one, Services' names lead to their addresses; "localhost" is the pod's own. Options of the command line
come later and win.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

__all__ = ["configuration", "main"]


def configuration(env: Mapping[str, str], arguments: list[str]) -> list[str]:
    """The lines of curl's configuration.

    Args:
        env: The container's environment.
        arguments: curl's own arguments, in which ports of localhost are looked for.
    """
    local = env["LABKIT_LOCAL_IP"]
    behind = bool(env.get("LABKIT_CAPTURE"))
    # Without a sidecar applications bind the pod IP.
    own = local if behind or not _application(env) else env.get("LABKIT_POD_IP", local)
    shift = int(env.get("LABKIT_LOW_PORT_SHIFT") or 0)
    lines = [f'noproxy = "localhost,127.0.0.1,{local}"']
    for name in ("localhost", "127.0.0.1"):
        for port in _low_ports(arguments) if shift else ():
            lines.append(f'connect-to = "{name}:{port}:{own}:{port + shift}"')
        lines.append(f'connect-to = "{name}::{own}:"')
    if behind:
        return [*lines, f'proxy = "http://{env["LABKIT_CAPTURE"]}"']
    return [*lines, *_names(env, shift)]


def _application(env: Mapping[str, str]) -> bool:
    """Whether this is an application's container: the proxy's own talks to what listens at the pod's localhost."""
    return "proxyv2" not in env.get("LABKIT_IMAGE", "")


def _low_ports(arguments: list[str]) -> set[int]:
    found = {80, 443}
    for argument in arguments:
        found |= {int(port) for port in re.findall(r"(?:localhost|127\.0\.0\.1):(\d{1,3})\b", argument)}
    return found


def _names(env: Mapping[str, str], shift: int) -> Iterator[str]:
    try:
        with open(env.get("LABKIT_DNS", ""), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return
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
            where = target if isinstance(target, str) else next(iter(target), "")
            if where:
                yield from (f'connect-to = "{form}::{where}:"' for form in _forms(f"{name}.{namespace}", env))


def _forms(key: str, env: Mapping[str, str]) -> list[str]:
    """The names of the Service "name.namespace" in this pod."""
    name, _, namespace = key.partition(".")
    forms = [key, f"{key}.svc", f"{key}.svc.cluster.local"]
    return [name, *forms] if namespace == env.get("LABKIT_NAMESPACE") else forms


def main() -> None:
    """Become the real curl."""
    arguments = sys.argv[1:]
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
    path = os.pathsep.join(p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p != here)
    real = shutil.which("curl", path=path)
    if real is None:
        print("curl: this machine has no curl", file=sys.stderr)
        sys.exit(127)
    given: list[str] = []
    if os.environ.get("LABKIT_LOCAL_IP"):
        text = "\n".join(configuration(os.environ, arguments)) + "\n"
        descriptor = os.memfd_create("curlrc", 0)
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        given = ["-K", f"/dev/fd/{descriptor}"]
    # -q has to be the first of all.
    first = 1 if arguments[:1] in (["-q"], ["--disable"]) else 0
    os.execv(real, ["curl", *arguments[:first], *given, *arguments[first:]])


if __name__ == "__main__":
    main()
