# SPDX-License-Identifier: Apache-2.0
"""Manifests, shown as they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from labkit import display
from labkit.cluster import manifests
from labkit.ground import reading
from labkit.ground.errors import ClusterError

__all__ = ["show_yaml"]


def show_yaml(path: str | Path, *, only: str = "") -> None:
    """Show a manifest with highlighting.

    Args:
        path: The file.
        only: Only the objects of this kind, or of this "Kind/name"; "" for all.

    Raises:
        ClusterError: The file cannot be read, or has no such object.
    """
    text = manifests.read(path)
    if only:
        kind, _, name = only.partition("/")
        chosen = [part for part in re.split(r"^---.*\n", text, flags=re.MULTILINE) if _is(part, kind, name)]
        if not chosen:
            kinds = sorted(set(re.findall(r"^kind: *(\S+)", text, re.MULTILINE)))
            raise ClusterError(f"{path} has no {only}", next_step=f"It has the kinds {', '.join(kinds)}.")
        text = "---\n".join(chosen)
    display.show(display.code(text.strip("\n"), "yaml", title=os.path.relpath(path) + (f", {only}" if only else "")))


def _is(part: str, kind: str, name: str) -> bool:
    try:
        found = reading.yaml_value(part)
    except reading.ReadingError:
        return False
    return isinstance(found, dict) and found.get("kind") == kind and name in ("", found.get("metadata", {}).get("name"))
