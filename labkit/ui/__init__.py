# SPDX-License-Identifier: Apache-2.0
"""What a notebook shows besides kubectl's own output: files, readiness as it comes, the mesh at work, consoles in
frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.display import code, command, message, show, table
from labkit.ui.embedding import address_of, embed
from labkit.ui.files import show_yaml
from labkit.ui.readiness import ReadinessPanel, ready, watch

if TYPE_CHECKING:
    from labkit.ui.mesh_map import MeshMap, mesh

__all__ = [
    "MeshMap",
    "ReadinessPanel",
    "address_of",
    "code",
    "command",
    "embed",
    "mesh",
    "message",
    "ready",
    "show",
    "show_yaml",
    "table",
    "watch",
]


def __getattr__(name: str) -> Any:
    """The map, once somebody asks for it: what draws it takes longer to import than all the rest."""
    if name in ("MeshMap", "mesh"):
        from labkit.ui import mesh_map

        return getattr(mesh_map, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
