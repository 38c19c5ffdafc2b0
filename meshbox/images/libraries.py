# SPDX-License-Identifier: Apache-2.0
"""Libraries for programs that need more than pods have: those are forked from a Python that knows only labkit."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["lent", "take"]

_VARIABLE = "LABKIT_LIBRARIES"


def lent(*modules: str) -> dict[str, str]:
    """The variable that says where this machine has `modules`, for a program that takes them."""
    specs = [importlib.util.find_spec(name) for name in modules]
    folders = {str(Path(spec.origin).parents[1]) for spec in specs if spec is not None and spec.origin}
    return {_VARIABLE: ":".join(sorted(folders))}


def take() -> None:
    """Let this program import what it was lent."""
    sys.path += [folder for folder in os.environ.get(_VARIABLE, "").split(":") if folder]
