# SPDX-License-Identifier: Apache-2.0
"""Clusters with their endpoints, as an Envoy has them once it has been told of both."""

from __future__ import annotations

import json
from typing import Any

from meshbox.mesh.translate import Config

__all__ = ["whole_clusters"]


def whole_clusters(config: Config) -> dict[str, dict[str, Any]]:
    """By name each cluster; one that is told of its endpoints (EDS) has these as its `load_assignment`."""
    found: dict[str, dict[str, Any]] = {name: json.loads(body) for name, body in config.clusters.items()}
    for name, body in config.endpoints.items():
        found[name]["load_assignment"] = json.loads(body)
    return found
