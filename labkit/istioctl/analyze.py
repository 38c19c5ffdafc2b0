# SPDX-License-Identifier: Apache-2.0
"""`istioctl analyze`: what is wrong with the objects of a cluster, of files, or of files as if they were applied."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.errors import ClusterError, SettingError
from labkit.istio.analyze import KINDS, MESSAGES, OPTIONAL, Finding, analyze, credentials
from labkit.istioctl.common import choose

__all__ = ["add_to"]

_DOCS = "https://istio.io/v1.30/docs/reference/config/analysis"
_FOUND, _UNREADABLE = 79, 65
_LEVELS = ("Error", "Warning", "Info")
_EXTENSIONS = (".json", ".yaml", ".yml")
_ALSO = ("customresourcedefinitions.apiextensions.k8s.io",)


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command."""
    parser = commands.add_parser("analyze", aliases=["analyse"], parents=[parents], help="say what is wrong")
    parser.add_argument("files", nargs="*", help='files and folders, "-" for what is read: as if they were applied')
    parser.add_argument("-f", "--filename", action="append", default=[], help="another way to name a file")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-k", "--use-kube", nargs="?", const="true", default="true", choices=("true", "false"))
    parser.add_argument("-S", "--suppress", action="append", default=[], metavar='"CODE=KIND NAME.NAMESPACE"')
    parser.add_argument("-o", "--output", default="log", choices=("log", "json", "yaml"))
    for name, default in (("failure-threshold", "Error"), ("output-threshold", "Info")):
        parser.add_argument(f"--{name}", default=default, type=str.capitalize, choices=_LEVELS)
    parser.add_argument("--ignore-unknown", action="store_true", help="files that cannot be read are no fault")
    parser.add_argument("-R", "--recursive", action="store_true", help="taken: folders are always read so")
    for name in ("color", "timeout", "revision"):
        parser.add_argument(f"--{name}", default="", help="taken: nothing comes of it here")
    parser.add_argument("-L", "--list-analyzers", action="store_true", help="list the messages there are")
    parser.set_defaults(action=_run)


def _run(args: argparse.Namespace) -> int:
    if args.list_analyzers:
        print("\n".join(f"* {code} {one.name} ({one.level})" for code, one in sorted(MESSAGES.items())))
        return 0
    files = list(_files([*args.files, *args.filename]))
    live = args.use_kube == "true"
    if not live and not files:
        raise SettingError("no files were named", next_step="`--use-kube=false` needs files to analyze.")
    namespace = choose(args) if live else args.namespace or "default"
    if live and args.namespace and not args.all_namespaces and not cluster.exists("namespace", namespace):
        # As the genuine one has it, that is no error.
        print(f'namespace "{namespace}" not found', file=sys.stderr)
        return 0
    given, places, broken = _given(files, namespace)
    objects, secrets = _of_cluster(given) if live else ([], None)
    replaced = {_key(one) for one in given}
    found = analyze([*(one for one in objects if _key(one) not in replaced), *given], secrets=secrets)
    where = None if args.all_namespaces else namespace
    told = sorted((f for f in found if _meant(f, where) and not _suppressed(f, args.suppress)), key=_rank)
    shown = [one for one in told if _LEVELS.index(one.level) <= _LEVELS.index(args.output_threshold)]
    print(_printed(shown, places, args.output))
    target = "all namespaces" if args.all_namespaces else f"namespace: {namespace}"
    if not shown and broken:
        count = f"{broken} file{'s' if broken > 1 else ''}"
        print(f"No validation issues found when analyzing {target} (but {count} could not be parsed).", file=sys.stderr)
    elif not shown:
        names = [name for name, _ in files]
        about = ":\n  - " + "\n  - ".join(names) if len(names) > 1 else f" {names[0] if names else target}."
        print(f"✔ No validation issues found when analyzing{about}", file=sys.stderr)
    if args.output != "log":
        return 0
    if any(_LEVELS.index(one.level) <= _LEVELS.index(args.failure_threshold) for one in told):
        more = f"See {_DOCS} for more information about causes and resolutions."
        print(f"Error: Analyzers found issues when analyzing {target}.\n{more}", file=sys.stderr)
        return _FOUND
    if broken and not args.ignore_unknown:
        print("Error: Some files couldn't be parsed.", file=sys.stderr)
        return _UNREADABLE
    return 0


def _files(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The files that are meant, with what stands in them."""
    for name in names:
        if name == "-":
            yield name, sys.stdin.read()
            continue
        path = Path(name)
        for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if one.is_dir():
                continue
            if one.suffix not in _EXTENSIONS:
                known = " ".join(_EXTENSIONS)
                print(f"Skipping file {one}, recognized file extensions are: [{known}]", file=sys.stderr)
                continue
            yield str(one), one.read_text(errors="replace")


def _given(files: list[tuple[str, str]], namespace: str) -> tuple[list[Obj], dict[str, str], int]:
    """The objects in files, where each stands, and how many files cannot be read."""
    objects: list[Obj] = []
    places: dict[str, str] = {}
    broken = 0
    for name, text in files:
        try:
            # Files with an object of another kind among them hold no line of it that could be told.
            nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
            documents = [one for one in yaml.safe_load_all(text) if one is not None]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            print(f"Error(s) reading {name}: {str(error).splitlines()[0]}", file=sys.stderr)
            broken += 1
            continue
        for node, document in zip(nodes, documents, strict=False):
            for one in document.get("items") or [] if _is_list(document) else [document]:
                if isinstance(one, dict) and isinstance(one.get("metadata"), dict):
                    if _namespaced(one):
                        one["metadata"].setdefault("namespace", namespace)
                    places[_where(one)] = f"{name}:{_line(node)}"
                objects.append(one)
    return objects, places, broken


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list)


def _line(node: Any) -> int:
    """Where an object's name stands."""
    with contextlib.suppress(AttributeError, TypeError, ValueError, StopIteration):
        about = next(value for key, value in node.value if key.value == "metadata")
        return int(next(value for key, value in about.value if key.value == "name").start_mark.line) + 1
    return int(node.start_mark.line) + 1


def _namespaced(item: Obj) -> bool:
    return item.get("kind") not in (
        *("Namespace", "Node", "CustomResourceDefinition", "GatewayClass", "ClusterRole", "ClusterRoleBinding"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
    )


def _where(item: Obj) -> str:
    about = item["metadata"]
    return f"{item.get('kind')} {about.get('namespace') or ''}/{about.get('name')}".replace(" /", " ")


def _key(item: Any) -> tuple[str, str]:
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        return "", ""
    return str(item.get("apiVersion", "")).partition("/")[0], _where(item)


def _of_cluster(given: list[Obj]) -> tuple[list[Obj], set[tuple[str, str]] | None]:
    """What there is, and which Secrets, where one may know."""
    served = {one.name for one in cluster.served()}
    kinds = ["namespaces", "services", "pods", *(kind for kind in KINDS if kind in served)]
    objects = cluster.get(",".join(kinds), all_namespaces=True)
    for kind in (*OPTIONAL, *_ALSO):
        with contextlib.suppress(ClusterError):
            objects += cluster.get(kind, all_namespaces=True)
    try:
        secrets = cluster.get("secrets", all_namespaces=True)
    except ClusterError:
        return objects, None
    doors = [one for one in (*objects, *given) if isinstance(one, dict) and one.get("kind") == "Gateway"]
    named: set[str] = set()
    for one in doors:
        with contextlib.suppress(AttributeError, TypeError):
            named |= set(credentials(one))
    objects += [one for one in secrets if one["metadata"]["name"] in named]
    return objects, {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in secrets}


def _meant(finding: Finding, namespace: str | None) -> bool:
    kind, _, name = finding.where.partition(" ")
    own = name if kind == "Namespace" else name.partition("/")[0] if "/" in name else ""
    return namespace is None or own in ("", namespace)


def _suppressed(finding: Finding, asked: list[str]) -> bool:
    """Whether somebody said "CODE=KIND NAME.NAMESPACE" of it, with * for whatever."""
    kind, _, name = finding.where.partition(" ")
    namespace, slash, rest = name.partition("/")
    written = f"{kind} {rest}.{namespace}" if slash else f"{kind} {name}"
    pairs = (one.partition("=") for one in asked)
    return any(code == finding.code and fnmatch.fnmatchcase(written, pattern) for code, _, pattern in pairs)


def _rank(finding: Finding) -> tuple[int, str, str, str]:
    return _LEVELS.index(finding.level), finding.code, finding.where, finding.message


def _printed(found: list[Finding], places: dict[str, str], how: str) -> str:
    if how == "log":
        lines = []
        for one in found:
            place = f" {places[one.where]}" if one.where in places else ""
            lines.append(f"{one.level} [{one.code}] ({one.where}{place}) {one.message}")
        return "\n".join(lines)
    rows = [
        {
            "code": one.code,
            "documentationUrl": f"{_DOCS}/{one.code.lower()}/?ref=istioctl-analyze",
            "level": one.level,
            "message": one.message,
            "origin": one.where,
            **({"reference": places[one.where]} if one.where in places else {}),
        }
        for one in found
    ]
    return json.dumps(rows, indent="\t", ensure_ascii=False) if how == "json" else yaml.safe_dump(rows)
