# SPDX-License-Identifier: Apache-2.0
"""`istioctl proxy-config`: what an Envoy was told, in tables, or as it says it itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Obj
from labkit.ground.errors import SettingError
from labkit.istio.envoy.admin import Admin
from labkit.istio.envoy.dump import Dump
from labkit.istioctl import summaries
from labkit.istioctl.common import camel, choose, part_of, proxy_of, table

__all__ = ["add_to", "whole"]

_KINDS = {
    "all": ("a",),
    "bootstrap": ("b",),
    "cluster": ("clusters", "c"),
    "endpoint": ("endpoints", "ep"),
    "listener": ("listeners", "l"),
    "route": ("routes", "r"),
    "secret": ("secrets", "s"),
    "log": ("o",),
}
_REFUSED = ("ecds", "rootca-compare", "eds")
_FILTERS: dict[str, tuple[str, ...]] = {
    "cluster": ("fqdn", "port", "subset", "direction"),
    "listener": ("address", "port", "type"),
    "route": ("name",),
    "endpoint": ("address", "port", "cluster", "status"),
}
_DUMPS = {"bootstrap": "Bootstrap", "secret": "Secrets"}
_FORMATS = ("short", "json", "yaml")
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command, with those below it."""
    parser = commands.add_parser("proxy-config", aliases=["pc"], help="what an Envoy was told")
    below = parser.add_subparsers(
        dest="kind", metavar="all|bootstrap|cluster|endpoint|listener|route|secret|log", required=True
    )
    for kind, aliases in _KINDS.items():
        one = below.add_parser(kind, aliases=aliases, parents=[parents])
        one.add_argument("proxy", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
        one.set_defaults(action=_run, kind_of=kind)
        if kind == "log":
            one.add_argument("--level", default="", help="LEVEL, or LOGGER:LEVEL,…")
            one.add_argument("-r", "--reset", action="store_true", help="all back to warning")
            continue
        default = "json" if kind == "bootstrap" else "short"
        one.add_argument("-o", "--output", default=default, help="short, json or yaml (default: %(default)s)")
        one.add_argument("-f", "--file", default="", help='a config dump, "-" for what is read')
        for name in _FILTERS.get(kind, ()):
            one.add_argument(f"--{name}", default="")
    for kind in _REFUSED:
        below.add_parser(kind).set_defaults(action=_refuse, kind_of=kind)


def _refuse(args: argparse.Namespace) -> int:
    raise SettingError(
        f"`istioctl proxy-config {args.kind_of}` is not played", next_step=f"There are {', '.join(_KINDS)}."
    )


def _run(args: argparse.Namespace) -> int:
    if args.kind_of == "log":
        return _log(args)
    if args.output not in _FORMATS:
        raise SettingError(
            f'output format "{args.output}" not supported', next_step=f"There are {', '.join(_FORMATS)}."
        )
    if bool(args.proxy) == bool(args.file):
        raise SettingError(
            f"{args.kind_of} requires pod name or --file parameter", next_step="`kubectl get pods` lists them."
        )
    config, health, certificates = _read(args) if args.proxy else (_from_file(args.file), {}, {})
    dump = Dump(config, health, certificates, datetime.now(UTC))
    if args.output == "short":
        print(_summary(args, config, health, dump))
        return 0
    found = _dumped(args, config, health, dump)
    text = json.dumps(found, indent=4) if args.output == "json" else yaml.safe_dump(found, sort_keys=False).rstrip()
    print(text)
    return 0


def _read(args: argparse.Namespace) -> tuple[Obj, Obj, Obj]:
    namespace = choose(args)
    with Admin(proxy_of(args.proxy, namespace)) as admin:
        health = admin.json("/clusters?format=json") if args.kind_of == "endpoint" else {}
        certificates = admin.json("/certs") if args.kind_of in ("secret", "all") else {}
        return admin.json("/config_dump?include_eds"), health, certificates


def _from_file(name: str) -> Obj:
    text = sys.stdin.read() if name == "-" else Path(name).read_text()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingError(f"{name} is no config dump: {error}", next_step="`-o json` of `all` writes one.") from None
    if not isinstance(found, dict) or not isinstance(found.get("configs"), list):
        raise SettingError(f"{name} is no config dump: it has no `configs`", next_step="`-o json` of `all` writes one.")
    return found


def _filters(args: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(args, name) for name in _FILTERS.get(args.kind_of, ()) if getattr(args, name)}


def _summary(args: argparse.Namespace, config: Obj, health: Obj, dump: Dump) -> str:
    wanted = _filters(args)
    makers: dict[str, Callable[[], str]] = {
        "cluster": lambda: table(summaries.clusters(dump, wanted)),
        "listener": lambda: table(summaries.listeners(dump, wanted), gap=1),
        "route": lambda: table(summaries.routes(dump, wanted)),
        "secret": lambda: summaries.secrets(config, dump),
        "endpoint": lambda: table(summaries.endpoints(health, wanted)),
        "bootstrap": lambda: summaries.bootstrap(config),
    }
    if args.kind_of == "endpoint" and args.file:
        raise SettingError("endpoints are not in a config dump", next_step="Name the pod.")
    return whole(config, dump) if args.kind_of == "all" else makers[args.kind_of]()


def whole(config: Obj, dump: Dump) -> str:
    """Everything in one, each thing's name with what it is before it."""

    def marked(kind: str, rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        head, *others = rows
        return iter([head, *((f"{kind}/{row[0]}", *row[1:]) for row in others)])

    parts = (
        summaries.bootstrap(config),
        table(summaries.clusters(dump, {}, named=True)),
        table(marked("listener", summaries.listeners(dump, {}, named=True)), gap=1),
        table(marked("route", summaries.routes(dump, {}))),
        table(marked("secret", summaries.secret_rows(config, dump))),
        table(summaries.endpoints_of(config)),
    )
    return "\n\n".join(parts)


def _dumped(args: argparse.Namespace, config: Obj, health: Obj, dump: Dump) -> Any:
    wanted, kind = _filters(args), args.kind_of
    if kind == "all":
        return config
    if kind in _DUMPS:
        return camel({name: one for name, one in part_of(config, _DUMPS[kind]).items() if name != "@type"})
    if kind == "endpoint":
        return camel(summaries.hosts(health, wanted))
    fits = {"cluster": summaries.cluster_fits, "listener": summaries.listener_fits, "route": summaries.route_fits}[kind]
    every = dump.of(f"{kind}s").values()
    return camel([{k: v for k, v in one.body.items() if k != "@type"} for one in every if fits(one.body, wanted)])


def _log(args: argparse.Namespace) -> int:
    if not args.proxy:
        raise SettingError("log requires pod name or --selector", next_step="`kubectl get pods` lists them.")
    proxy = proxy_of(args.proxy, choose(args))
    asked = "warning" if args.reset else args.level
    pages = ["/logging"]
    if asked:
        pages = []
        for one in asked.split(","):
            logger, colon, level = one.rpartition(":")
            if level not in _LEVELS:
                raise SettingError(f"unrecognized logging level: {level}", next_step=f"There are {', '.join(_LEVELS)}.")
            pages.append(f"/logging?{logger if colon else 'level'}={level}")
    with Admin(proxy) as admin:
        known = {
            line.partition(":")[0].strip() for line in admin.bytes("/logging", method="POST").decode().splitlines()
        }
        for one in filter(None, asked.split(",")):
            logger, colon, _ = one.rpartition(":")
            if colon and logger not in known:
                step = f"`istioctl proxy-config log {args.proxy}` lists them."
                raise SettingError(f"unrecognized logger name: {logger}", next_step=step)
        answers = [admin.bytes(page, method="POST").decode() for page in pages]
    print(f"{proxy.pod}.{proxy.namespace}:\n{answers[-1]}", end="")
    return 0
