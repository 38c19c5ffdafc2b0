# SPDX-License-Identifier: Apache-2.0
"""What a notebook shows besides kubectl's own output: files, readiness as it comes, the mesh at work, consoles in
frames."""

from labkit.display import code, command, message, show, table
from labkit.ui.embedding import address_of, embed
from labkit.ui.files import show_yaml
from labkit.ui.mesh_map import MeshMap, mesh
from labkit.ui.readiness import ReadinessPanel, ready, watch

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
