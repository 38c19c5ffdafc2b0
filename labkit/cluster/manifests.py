# SPDX-License-Identifier: Apache-2.0
"""Manifests on their way to the cluster: looked at before kubectl sees them, so that a fault names file and line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import target as targets
from labkit.cluster.kubectl import Output, kubectl
from labkit.ground.errors import ClusterError
from labkit.ground.reading import ReadingError, check_yaml

__all__ = ["MANIFEST_LIMIT", "Source", "apply", "delete", "read"]

MANIFEST_LIMIT = 8 * 1024 * 1024
"""Bytes of one manifest file. Istio's largest has 1.2 MB; a Kubernetes server takes about 3 MB in one request."""

Source = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A path, YAML text (anything with a line break), an object, or a list of objects."""

_SUFFIXES = (".yaml", ".yml", ".json")


def read(path: str | Path) -> str:
    """The text of a manifest.

    Raises:
        ClusterError: It is missing, a folder, too large or not UTF-8; the message names the file and the place in it.
        NoTargetError: It is missing, and the lesson that would know its folder could not begin.
    """
    path = Path(path)
    shown = _short(path)
    if not path.exists():
        if not path.is_absolute():
            # A lesson's folder is entered once there is a cluster; if that failed the path is no fault.
            targets.require_no_refusal()
        parent = path.parent
        while not parent.exists():
            parent = parent.parent
        there = sorted(entry.name for entry in parent.iterdir() if entry.suffix in _SUFFIXES) if parent.is_dir() else []
        seen = f"{_short(parent)} has {', '.join(there[:12])}" if there else f"{_short(parent)} has no manifests"
        raise ClusterError(f"there is no file {shown}", next_step=f"Check the path: {seen}.")
    if path.is_dir():
        raise ClusterError(f"{shown} is a folder, not a manifest", next_step=f"Name a file in it: {_names_in(path)}.")
    size = path.stat().st_size
    if size > MANIFEST_LIMIT:
        raise ClusterError(
            f"{shown} has {size / 1e6:.1f} MB; a manifest has at most {MANIFEST_LIMIT / 1e6:.1f} MB",
            next_step="Is it the right file? If so, split it at its `---` lines and apply the parts.",
        )
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ClusterError(
            f"{shown} is not UTF-8 text: byte 0x{raw[error.start]:02x} in line {line} (byte {error.start})",
            next_step="Save it as UTF-8 in your editor; an archive must be unpacked first.",
        ) from None


def apply(
    source: Source,
    *,
    namespace: str = "",
    server_side: bool = False,
    show: bool = True,
    echo: bool = True,
    timeout: float = 120.0,
) -> Output:
    """`kubectl apply -f` of a file, a folder of files, a URL, YAML text or objects.

    Args:
        source: What to apply.
        namespace: For objects that name none; "" for the context's own.
        server_side: Whether the server is to work out what changes, and to keep who wrote which field.
        show: Whether to show the command and its output.
        echo: Whether to show the YAML as well.
        timeout: Seconds.

    Raises:
        ClusterError: The source cannot be read (with file and line), or the cluster refused it (with its reason).
    """
    verb = ["apply", *(["--server-side"] if server_side else [])]
    return _send(verb, source, namespace, show=show, echo=echo, timeout=timeout)


def delete(
    source: Source,
    *,
    namespace: str = "",
    ignore_not_found: bool = True,
    show: bool = True,
    echo: bool = True,
    timeout: float = 180.0,
) -> Output:
    """`kubectl delete -f` of what `apply` takes; waits until the objects are gone.

    Args:
        source: What to delete.
        namespace: For objects that name none; "" for the context's own.
        ignore_not_found: Whether objects that are not there are no fault.
        show: Whether to show the command and its output.
        echo: Whether to show the YAML as well.
        timeout: Seconds.

    Raises:
        ClusterError: The source cannot be read, or the cluster refused.
    """
    verb = ["delete", f"--ignore-not-found={str(ignore_not_found).lower()}"]
    return _send(verb, source, namespace, show=show, echo=echo, timeout=timeout)


def _send(verb: list[str], source: Source, namespace: str, *, show: bool, echo: bool, timeout: float) -> Output:
    targets.current()
    scope = ["-n", namespace] if namespace else []
    text: str | None = None
    if isinstance(source, Mapping):
        source = [source]
    if isinstance(source, str) and "\n" in source:
        text = source
    elif isinstance(source, (str, Path)):
        path = str(source)
        if not path.startswith(("http://", "https://")):
            folder = Path(path)
            if not (folder.is_dir() and any(entry.suffix in _SUFFIXES for entry in folder.iterdir())):
                _check_yaml(read(folder), _short(folder))
        return kubectl([*verb, "-f", _short(path), *scope], show=show, timeout=timeout)
    else:
        text = yaml.safe_dump_all(list(source), sort_keys=False)
    _check_yaml(text, "the text given")
    return kubectl([*verb, *scope, "-f", "-"], stdin=text, show=show, echo=echo, timeout=timeout)


def _check_yaml(text: str, name: str) -> None:
    try:
        check_yaml(text, most_bytes=MANIFEST_LIMIT)
    except ReadingError as error:
        if error.problem.startswith("it "):
            next_step = "No object of Kubernetes is like that: correct or split the file."
            raise ClusterError(f"{name} cannot be read: {error.problem}", next_step=next_step) from None
        if not error.line:
            raise ClusterError(f"{name} is not YAML: {error.problem}", next_step="Is it a text file?") from None
        lines = text.splitlines()
        seen = lines[error.line - 1] if error.line <= len(lines) else ""
        pointer = " " * (error.column - 1) + "^"
        raise ClusterError(
            f"{name} is not YAML: {error.problem}\nline {error.line}, column {error.column}:\n  {seen}\n  {pointer}",
            next_step="Correct that line or the one above it: often an indent, a tab, or a colon inside plain text.",
        ) from None


def _short(path: str | Path) -> str:
    """The path as a learner would type it: relative to this folder where that is shorter."""
    text = str(path)
    if text.startswith(("http://", "https://")):
        return text
    try:
        relative = os.path.relpath(text)
    except ValueError:
        return text
    return relative if len(relative) < len(text) else text


def _names_in(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "it is empty"
