# SPDX-License-Identifier: Apache-2.0
"""What is in files of YAML, each of which is read once for all tests of a worker: the genuine ones are megabytes."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import yaml

__all__ = ["documents"]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(path: Path) -> list[Any]:
    """The documents of a file that are not empty; the caller's own, to change as he likes."""
    found: list[Any] = pickle.loads(_read(path))
    return found


@functools.cache
def _read(path: Path) -> bytes:
    return pickle.dumps([one for one in yaml.load_all(path.read_text(), LOADER) if one])
