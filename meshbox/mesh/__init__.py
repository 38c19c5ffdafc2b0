# SPDX-License-Identifier: Apache-2.0
"""The mesh: injection, validation, certificates, and Istio's objects as configuration of real Envoys over xDS."""

from __future__ import annotations

from meshbox.mesh.mesh import Mesh

__all__ = ["Mesh"]
