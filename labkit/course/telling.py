# SPDX-License-Identifier: Apache-2.0
"""What a seat tells its class of how far it is: a file in a folder that somebody named; nothing where nobody did."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from labkit.ground import files

__all__ = ["FOLDER", "SEAT", "folder", "tell"]

FOLDER = "LABKIT_CLASS"
"""The environment variable with the folder; where it is not set nobody is told anything."""

SEAT = "LABKIT_SEAT"
"""The environment variable with the name under which a seat tells; else it is JupyterHub's, or the login's."""

_ODD = re.compile(r"[^A-Za-z0-9._@-]+")


def folder() -> Path | None:
    """The class's folder; None where this user tells nobody."""
    named = os.environ.get(FOLDER, "")
    return Path(named).expanduser() if named else None


def tell(place: Path, ticks: Mapping[str, object]) -> None:
    """Tell the class, if there is one, how far this seat is on one cluster.

    Args:
        place: The folder with what is known of the cluster.
        ticks: What was finished and solved there, and when.

    Raises:
        OSError: It cannot be written; its `filename` says where.
    """
    if (told := folder()) is None:
        return
    who = os.environ.get(SEAT) or os.environ.get("JUPYTERHUB_USER") or _login()
    # A sandbox's is named "course", after which sandbox it is; another cluster's is named by the cluster's uid.
    cluster = place.parent.name if place.name == "course" else place.name
    said = {"who": who, "cluster": cluster, **ticks}
    name = f"{_ODD.sub('_', who)[:80]}.{_ODD.sub('_', cluster)[:80]}.json"
    # The instructor is another user.
    files.write(told / name, json.dumps(said).encode(), mode=0o644, lasting=False)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user that no file names.
        return str(os.getuid())
