from __future__ import annotations

from tests.cluster.conftest import as_before, kubectl

__all__ = ["as_before", "kubectl"]
