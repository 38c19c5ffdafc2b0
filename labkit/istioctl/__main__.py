# SPDX-License-Identifier: Apache-2.0
"""``python -m labkit.istioctl``, and the command `istioctl`: the genuine one if the PATH has it, else ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labkit.ground.entry import enter

__all__ = ["genuine", "main"]

_TRIED = "LABKIT_ISTIOCTL"
"""Set for the one that is run in our place: should it lead back to us, we go on."""

_OURS = b"labkit.istioctl"
"""Stands in the script that an installation makes of us."""


def genuine(path: str) -> str:
    """The first istioctl on a PATH that is none of ours; "" if there is none."""
    for folder in filter(None, path.split(os.pathsep)):
        found = Path(folder, "istioctl")
        if not (found.is_file() and os.access(found, os.X_OK)):
            continue
        try:
            with found.open("rb") as file:
                ours = _OURS in file.read(4096)
        except OSError:
            # To be run it need not be read.
            ours = False
        if not ours:
            return str(found)
    return ""


def main() -> int:
    """The command line."""
    other = "" if os.environ.get(_TRIED) else genuine(os.environ.get("PATH", os.defpath))
    if other:
        os.execve(other, ["istioctl", *sys.argv[1:]], {**os.environ, _TRIED: other})
    return enter("istioctl", "labkit.istioctl.commands")


if __name__ == "__main__":
    sys.exit(main())
