# SPDX-License-Identifier: Apache-2.0
"""What stands between a program in a pod and the network: see `sitecustomize`."""

from __future__ import annotations

from meshbox.images.shim.sitecustomize import install

__all__ = ["install"]
