# SPDX-License-Identifier: Apache-2.0
"""`istioctl dashboard`: a console, or an Envoy's own page, at a port of this machine until it is interrupted."""

from __future__ import annotations

import argparse
import threading
from typing import Any

from labkit import cluster
from labkit.ground.errors import ClusterError
from labkit.istio import releases
from labkit.istioctl.common import choose, proxy_of

__all__ = ["add_to"]

_ENVOY = 15000
_LINKS = {"kiali": "/kiali"}


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command, with those below it."""
    parser = commands.add_parser("dashboard", aliases=["dash", "d"], help="open a console")
    names = [one.name for one in releases.facts("1.30.3").addons]
    below = parser.add_subparsers(dest="console", metavar="|".join([*names, "envoy"]), required=True)
    for name in (*names, "envoy"):
        one = below.add_parser(name, aliases=["proxy"] if name == "envoy" else [], parents=[parents])
        if name == "envoy":
            one.add_argument("proxy", metavar="[TYPE/]NAME[.NAMESPACE]")
        one.add_argument(
            "-p", "--port", type=int, default=0, help="the port here; default: the console's, if it is free"
        )
        one.add_argument("--browser", nargs="?", const="true", default="false", help="open it in a browser")
        one.set_defaults(action=_run, console_of=name)


def _run(args: argparse.Namespace) -> int:
    namespace = choose(args)
    path = _LINKS.get(args.console_of, "")
    if args.console_of == "envoy":
        proxy = proxy_of(args.proxy, namespace)
        resource, where, port = f"pod/{proxy.pod}", proxy.namespace, _ENVOY
    else:
        resource, where, port = _console(args.console_of, args.system)
    try:
        forward = cluster.port_forward(resource, port, namespace=where, local_port=args.port or port, show=False)
    except ClusterError as error:
        if args.port or "address already in use" not in error.message:
            raise
        forward = cluster.port_forward(resource, port, namespace=where, show=False)
    with forward:
        url = f"http://localhost:{forward.port}{path}"
        print(url, flush=True)
        if args.browser == "true":
            import webbrowser

            webbrowser.open(url)
        # Until somebody interrupts it, as the genuine one.
        threading.Event().wait()
    return 0


def _console(name: str, system: str) -> tuple[str, str, int]:
    """What leads to a console: resource, namespace and port, as one of the releases has them."""
    for release in ("1.30.3", "1.2.2"):
        addon = next((one for one in releases.facts(release).addons if one.name == name), None)
        if addon is not None and cluster.exists("services", addon.service, namespace=system):
            return f"svc/{addon.service}", system, addon.port
    raise ClusterError(
        f"no {name} pods found", next_step=f"`kubectl get services -n {system}`: is the add-on installed?"
    )
