# SPDX-License-Identifier: Apache-2.0
"""What the mesh's configuration takes for granted of the Envoys that it is for."""

from __future__ import annotations

from typing import Any

__all__ = ["HTTP_VARIABLE", "UNKNOWN_VARIABLE", "VARIABLES", "named"]

UNKNOWN_VARIABLE = "ISTIO_UNKNOWN"
HTTP_VARIABLE = "ISTIO_HTTP"
VARIABLES = {UNKNOWN_VARIABLE: "unknown", HTTP_VARIABLE: "http"}
"""What is in an Envoy's environment: it has no log operator for a word, which formats that choose end with."""


def named(cluster: str, *, legacy: bool) -> dict[str, Any]:
    """How a cluster is named in statistics: today's tags know a name's end by a semicolon.

    Args:
        cluster: Its name, whatever dots and bars are in it.
        legacy: Whether Istio 1.2's rules apply.

    Returns:
        The field of an Envoy's cluster; none where it is named as it is.
    """
    return {} if legacy else {"alt_stat_name": f"{cluster};"}
