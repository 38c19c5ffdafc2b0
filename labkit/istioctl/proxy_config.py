# SPDX-License-Identifier: Apache-2.0
"""`istioctl proxy-config`: what an Envoy was told, in tables, or as it says it itself."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.errors import ClusterError, SettingError
from labkit.istio.envoy.admin import Admin, has_proxy, of_pod
from labkit.istio.envoy.dump import Dump
from labkit.istioctl import summaries
from labkit.istioctl.common import camel, choose, from_file, part_of, proxy_of, table

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
_FILTERS: dict[str, tuple[str, ...]] = {
    "all": ("fqdn", "port", "subset", "direction", "address", "type", "name"),
    "cluster": ("fqdn", "port", "subset", "direction"),
    "listener": ("address", "port", "type"),
    "route": ("name",),
    "endpoint": ("address", "port", "cluster", "status"),
}
_VERBOSE = ("all", "listener", "route")
_DUMPS = {"bootstrap": "Bootstrap", "secret": "Secrets"}
_FORMATS = ("short", "json", "yaml")
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")
_LEVEL = re.compile(r"(?:.*::)?(?:([^:=]*)[:=])?(.*)", re.DOTALL)


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command, with those below it."""
    parser = commands.add_parser("proxy-config", aliases=["pc"], help="what an Envoy was told")
    below = parser.add_subparsers(dest="kind", metavar="|".join(_KINDS), required=True)
    for kind, aliases in _KINDS.items():
        one = below.add_parser(kind, aliases=aliases, parents=[parents])
        one.add_argument("proxy", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
        one.add_argument("--proxy-admin-port", type=int, default=15000, choices=(15000,), help="taken: it is always so")
        one.set_defaults(action=_run, kind_of=kind)
        if kind == "log":
            one.add_argument("--level", default="", help="LEVEL, or LOGGER:LEVEL,…")
            one.add_argument("-r", "--reset", action="store_true", help="all back to warning")
            one.add_argument("-l", "--selector", default="", help="the pods with these labels")
            one.add_argument("-o", "--output", default="short", help="refused: there is one form")
            continue
        default = "json" if kind == "bootstrap" else "short"
        one.add_argument("-o", "--output", default=default, help="short, json or yaml (default: %(default)s)")
        one.add_argument("-f", "--file", default="", help='a config dump, "-" for what is read')
        for name in _FILTERS.get(kind, ()):
            one.add_argument(f"--{name}", default=0 if name == "port" else "", type=int if name == "port" else str)
        if kind in _VERBOSE:
            one.add_argument("--verbose", nargs="?", const="true", default="true", choices=("true", "false"))
    both = below.add_parser("rootca-compare", aliases=["rc"], parents=[parents], help="whether two proxies trust alike")
    both.add_argument("proxies", nargs=2, metavar="[pod/]NAME[.NAMESPACE]")
    both.set_defaults(action=_compare)


def _run(args: argparse.Namespace) -> int:
    if args.kind_of == "log":
        return _log(args)
    if args.output not in _FORMATS:
        raise SettingError(
            f'output format "{args.output}" not supported', next_step=f"There are {', '.join(_FORMATS)}."
        )
    if bool(args.proxy) == bool(args.file):
        kind = "endpoints" if args.kind_of == "endpoint" else args.kind_of
        raise SettingError(f"{kind} requires pod name or --file parameter", next_step="`kubectl get pods` lists them.")
    config, health, certificates = _read(args)
    dump = Dump(config, health, certificates, datetime.now(UTC))
    wanted = {name: str(given) for name in _FILTERS.get(args.kind_of, ()) if (given := getattr(args, name))}
    if args.output == "short":
        print(_summary(args, config, health, dump, wanted))
    else:
        found = _dumped(args.kind_of, config, health, dump, wanted)
        print(json.dumps(found, indent=4) if args.output == "json" else yaml.safe_dump(found, sort_keys=False).rstrip())
    if args.kind_of == "listener" and (port := wanted.get("port", "")) and summaries.elsewhere(dump, int(port)):
        print(
            f"No connection is redirected to {port} here: these listeners do what Istio's there does.", file=sys.stderr
        )
    return 0


def _read(args: argparse.Namespace) -> tuple[Obj, Obj, Obj]:
    if args.file:
        ends = args.kind_of == "endpoint"
        page = from_file(args.file, "cluster_statuses" if ends else "configs")
        return ({}, page, {}) if ends else (page, {}, {})
    with Admin(proxy_of(args.proxy, choose(args))) as admin:
        health = admin.json("/clusters?format=json") if args.kind_of == "endpoint" else {}
        certificates = admin.json("/certs") if args.kind_of in ("secret", "all") else {}
        return admin.json("/config_dump?include_eds"), health, certificates


def _summary(args: argparse.Namespace, config: Obj, health: Obj, dump: Dump, wanted: dict[str, str]) -> str:
    verbose = getattr(args, "verbose", "true") == "true"
    makers: dict[str, Callable[[], str]] = {
        "all": lambda: whole(config, dump, wanted, verbose=verbose),
        "cluster": lambda: table(summaries.clusters(dump, wanted)),
        "listener": lambda: table(summaries.listeners(dump, wanted, verbose=verbose), gap=1),
        "route": lambda: table(summaries.routes(dump, wanted, verbose=verbose)),
        "secret": lambda: summaries.secrets(config, dump),
        "endpoint": lambda: table(summaries.endpoints(health, wanted)),
        "bootstrap": lambda: summaries.bootstrap(config),
    }
    return makers[args.kind_of]()


def whole(config: Obj, dump: Dump, wanted: Mapping[str, str], *, verbose: bool = True) -> str:
    """Everything in one that is asked for, each thing's name with what it is before it."""

    def marked(kind: str, rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        head, *others = rows
        return iter([head, *((f"{kind}/{row[0]}", *row[1:]) for row in others)])

    parts = (
        summaries.bootstrap(config),
        table(summaries.clusters(dump, wanted, named=True)),
        table(marked("listener", summaries.listeners(dump, wanted, named=True, verbose=verbose)), gap=1),
        table(marked("route", summaries.routes(dump, wanted, verbose=verbose))),
        table(marked("secret", summaries.secret_rows(config, dump))),
        table(summaries.endpoints_of(config, wanted)),
    )
    return "\n\n".join(parts)


def _dumped(kind: str, config: Obj, health: Obj, dump: Dump, wanted: Mapping[str, str]) -> Any:
    if kind == "all":
        return config
    if kind in _DUMPS:
        return camel({name: one for name, one in part_of(config, _DUMPS[kind]).items() if name != "@type"})
    if kind == "endpoint":
        return camel(summaries.hosts(health, wanted))
    fits = {"cluster": summaries.cluster_fits, "listener": summaries.listener_fits, "route": summaries.route_fits}[kind]
    # What was sent comes before what Envoy began with.
    every = sorted(dump.of(f"{kind}s").values(), key=lambda one: not one.version)
    if kind == "cluster":
        every.sort(key=lambda one: summaries.order(one.name))
    return camel([{k: v for k, v in one.body.items() if k != "@type"} for one in every if fits(one.body, wanted)])


def _compare(args: argparse.Namespace) -> int:
    namespace, names, known = choose(args), [], []
    for given in args.proxies:
        proxy = proxy_of(given.removeprefix("pod/"), namespace)
        with Admin(proxy) as admin:
            secrets = part_of(admin.json("/config_dump"), "Secrets").get("dynamic_active_secrets") or []
        roots = [one["secret"]["validation_context"]["trusted_ca"] for one in secrets if one["name"] == "ROOTCA"]
        pem = "".join(base64.b64decode(one.get("inline_bytes", "")).decode(errors="replace") for one in roots)
        known.append({"".join(one.split()) for one in pem.split("-----BEGIN CERTIFICATE-----")[1:]})
        names.append(f"[{proxy.pod}.{proxy.namespace}]")
    kind, end = ("", "") if known[0] & known[1] else ("non ", "un")
    whether = f"theoretically the connectivity between them is {end}available"
    print(f"Both {' and '.join(names)} have the {kind}identical ROOTCA, {whether}", file=sys.stderr)
    return int(bool(kind))


def _log(args: argparse.Namespace) -> int:
    if not (args.proxy or args.selector):
        raise SettingError("log requires pod name or --selector", next_step="`kubectl get pods` lists them.")
    if args.reset and args.level:
        raise SettingError("--level cannot be combined with --reset", next_step="Say one of them.")
    if args.output != "short":
        raise SettingError("--output is not applicable for this command", next_step="Leave it out.")
    asked = []
    for one in filter(None, ("warning" if args.reset else args.level).split(",")):
        logger, level = _LEVEL.fullmatch(one).groups()  # type: ignore[union-attr]
        level = "warning" if level == "warn" else level
        if level not in _LEVELS:
            raise SettingError(f"unrecognized logging level: {level}", next_step=f"There are {', '.join(_LEVELS)}.")
        asked.append((logger or "level", level))
    namespace = choose(args)
    if args.selector:
        pods = [one for one in cluster.get("pods", namespace=namespace, labels=args.selector) if has_proxy(one)]
        proxies = [of_pod(one) for one in pods]
    else:
        proxies = [proxy_of(args.proxy, namespace)]
    if not proxies:
        raise ClusterError("no pods found", next_step=f"`kubectl get pods -n {namespace} --show-labels` lists them.")
    for proxy in proxies:
        with Admin(proxy) as admin:
            answer = admin.bytes("/logging", method="POST").decode()
            known = {"level", *(line.partition(":")[0].strip() for line in answer.splitlines())}
            for logger, _ in asked:
                if logger not in known:
                    step = f"`istioctl proxy-config log {proxy.pod}.{proxy.namespace}` lists them."
                    raise SettingError(f"unrecognized logger name: {logger}", next_step=step)
            for logger, level in asked:
                answer = admin.bytes(f"/logging?{logger}={level}", method="POST").decode()
        print(f"{proxy.pod}.{proxy.namespace}:\n{answer}", end="")
    return 0
