# SPDX-License-Identifier: Apache-2.0
"""Images are tried in pods of a node of their own, as the node's own tests do."""

from __future__ import annotations

from tests.node.conftest import cluster

__all__ = ["cluster"]
