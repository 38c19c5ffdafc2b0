# SPDX-License-Identifier: Apache-2.0
"""`istioctl experimental authz check` and `envoy-stats`: rules of access that a proxy has, and what it counts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from labkit.ground.errors import SettingError
from labkit.istio.envoy.admin import Admin
from labkit.istio.envoy.dump import Dump, configuration
from labkit.istioctl.common import choose, from_file, proxy_of, table

__all__ = ["add_to", "rules"]

_NAMED = re.compile(r"ns\[(.+)\]-policy\[(.+)\]-rule\[(.+)\]")
_ACTIONS = ("DENY", "ALLOW", "LOG")
_PAGES = {
    "server": {"short": "/stats", "json": "/stats?format=json", "prom": "/stats/prometheus"},
    "clusters": {"short": "/clusters", "json": "/clusters?format=json"},
}


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The commands."""
    below = commands.add_parser("authz", help="which AuthorizationPolicies a proxy has")
    one = below.add_subparsers(dest="what", metavar="check", required=True).add_parser("check", parents=[parents])
    one.add_argument("proxy", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    one.add_argument("-f", "--file", default="", help='a config dump, "-" for what is read')
    one.set_defaults(action=_check)
    parser = commands.add_parser("envoy-stats", aliases=["es"], parents=[parents], help="what an Envoy counts")
    parser.add_argument("proxy", metavar="[TYPE/]NAME[.NAMESPACE]")
    parser.add_argument("-o", "--output", default="short", help="short, json, or prom for those of the server")
    parser.add_argument("-t", "--type", default="server", choices=tuple(_PAGES), help="whose (default: %(default)s)")
    parser.set_defaults(action=_stats)


def rules(dump: Dump) -> list[tuple[str, str]]:
    """Action and name of each rule of access that a proxy has: in filters, or in the routes for which they hold."""

    def within(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, list):
            for one in value:
                yield from within(one)
        elif isinstance(value, dict):
            known = value.get("rules")
            if isinstance(known, dict) and isinstance(known.get("policies"), dict):
                action = str(known.get("action", "ALLOW"))
                yield from ((action, name) for name in known["policies"] if _NAMED.fullmatch(name))
            for one in value.values():
                yield from within(one)

    bodies = [one.body for kind in ("listeners", "routes") for one in dump.of(kind).values()]
    return sorted(set(within(bodies)))


def _check(args: argparse.Namespace) -> int:
    if args.file:
        dump = Dump(from_file(args.file, "configs"), {}, {}, datetime.now(UTC))
    elif args.proxy:
        with Admin(proxy_of(args.proxy, choose(args))) as admin:
            dump = configuration(admin)
    else:
        raise SettingError("expecting pod name or config dump, found: 0", next_step="`kubectl get pods` lists them.")
    found = [(kind, f"{named[2]}.{named[1]}") for kind, name in rules(dump) if (named := _NAMED.fullmatch(name))]
    rows: list[tuple[object, ...]] = [("ACTION", "AuthorizationPolicy", "RULES")]
    rows += [
        (kind, name, found.count((kind, name))) for kind in _ACTIONS for of, name in sorted(set(found)) if of == kind
    ]
    print(table(rows, gap=3))
    return 0


def _stats(args: argparse.Namespace) -> int:
    pages = _PAGES[args.type]
    if args.output not in pages:
        words = f"unable to match a printer suitable for the output format {args.output}"
        raise SettingError(words, next_step=f"There are {', '.join(pages)}.")
    proxy = proxy_of(args.proxy, choose(args))
    with Admin(proxy) as admin:
        text = admin.bytes(pages[args.output]).decode(errors="replace")
    print(f"\nThe result of pod {proxy.pod}:\n\n{text}", end="")
    return 0
