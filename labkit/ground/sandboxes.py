# SPDX-License-Identifier: Apache-2.0
"""Which sandboxes this user has, as their folders say: each plays one release, and releases live side by side."""

from __future__ import annotations

import contextlib
import json
from itertools import chain, count
from pathlib import Path

from labkit.ground import config, files

__all__ = ["DEFAULT", "folder", "kubeconfig", "named", "release"]

DEFAULT = "default"
"""The name of the first sandbox; one of another release beside it has a name of its own."""


def folder(name: str) -> Path:
    """The folder of sandbox `name`, which need not be there.

    Raises:
        SettingError: as `config.home`.
    """
    return config.home() / "sandboxes" / name


def kubeconfig(name: str) -> Path:
    """The kubeconfig of sandbox `name`, which is there once it has run.

    Raises:
        SettingError: as `config.home`.
    """
    return folder(name) / "kubeconfig"


def release(name: str) -> str:
    """The release that sandbox `name` was made with; "" where there is no such sandbox, or nothing of it says so."""
    home = folder(name)
    with contextlib.suppress(OSError, ValueError):
        if (found := files.read(home / "release", 1024).decode().strip()) in config.RELEASES:
            return found
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        if (found := json.loads(files.read(home / "state.json")).get("release")) in config.RELEASES:
            return str(found)
    return ""


def named(version: str, first: str = "") -> str:
    """The name of the sandbox for a release: of one that plays it, else a name that is free.

    Args:
        version: The Istio release.
        first: A sandbox that is to be preferred, if it plays this release or is not there yet; "" for none.
    """
    own = f"istio-{version.replace('.', '-')}"
    candidates = [name for name in (first, DEFAULT, own) if name]
    for name in candidates:
        if release(name) == version:
            return name
    further = (f"{own}-{number}" for number in count(2))
    return next(name for name in chain(candidates, further) if release(name) in ("", version))
