# SPDX-License-Identifier: Apache-2.0
"""Settings that come from the environment, each with its unit and default."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from labkit.ground.errors import SettingError

__all__ = ["DEFAULT_RELEASE", "RELEASES", "advice", "home", "kernel_settings", "taught", "tool"]

RELEASES = ("1.2.2", "1.30.3")
"""The Istio releases this course teaches: the walk-through's own, and today's."""

DEFAULT_RELEASE = "1.30.3"

_UNUSABLE = re.compile("[:\x00-\x1f\x7f\ud800-\udfff]")


def taught(release: str) -> str:
    """`release`, if it is one of those that the course teaches.

    Raises:
        SettingError: it is none; the message names those there are.
    """
    if release in RELEASES:
        return release
    raise SettingError(
        f"this course does not teach Istio {release!r}",
        next_step=f"Choose {' or '.join(RELEASES)} (the default is {DEFAULT_RELEASE}).",
    )


def home() -> Path:
    """Where labkit keeps its state: `$LABKIT_HOME`, default `~/.labkit`. Not created here.

    Raises:
        SettingError: a folder that no sandbox can live in, whose name could not stand in KUBECONFIG or in a file; or
            none can be told, as this user has no home.
    """
    given = os.environ.get("LABKIT_HOME")
    try:
        path = (Path(given) if given else Path.home() / ".labkit").expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise SettingError(
            f"there is no folder for labkit's state: {error}", next_step="set LABKIT_HOME to a folder of yours"
        ) from None
    if bad := _UNUSABLE.search(str(path)):
        raise SettingError(
            f"{'LABKIT_HOME' if given else 'the home folder'} {str(path)!r} cannot be used: it holds {bad[0]!r}",
            next_step="set LABKIT_HOME to a folder without ':' (KUBECONFIG is split there), control characters and "
            "bytes that are no text",
        )
    return path


def advice(program: str = "labkit") -> str:
    """The next step after something that nobody expected.

    Args:
        program: The command that has a `doctor`: "labkit" or "meshbox".
    """
    # Libraries of another Python or another version there come before our own.
    shadows = "unset PYTHONPATH, whose modules come before labkit's own; " if os.environ.get("PYTHONPATH") else ""
    return f"{shadows}`{program} doctor` says what this machine lacks"


def kernel_settings() -> dict[str, str]:
    """Settings of Jupyter's `KernelManager`: whoever else is on this machine may connect to a kernel's ports, and shall
    hear nothing there. Empty where ZeroMQ was built without encryption.
    """
    # Only who starts kernels needs them.
    import zmq
    from jupyter_client.manager import KernelManager

    possible = hasattr(KernelManager, "transport_encryption") and zmq.has("curve")
    return {"transport_encryption": "auto"} if possible else {}


def tool(name: str) -> Path | None:
    """Where the program `name` is: beside this Python, then `$LABKIT_HOME/tools`, then on PATH; None if nowhere.

    Args:
        name: The program's file name, e.g. "kubectl", "envoy", "prometheus".
    """
    for folder in (Path(sys.executable).parent, home() / "tools"):
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None
