# SPDX-License-Identifier: Apache-2.0
"""The cipher suites of TLS 1.2 that Istio lets through to a proxy, which refuses a listener for any other name."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["known", "unknown"]

_NAMES = """
    ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384
    ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES128-SHA ECDHE-RSA-AES128-SHA
    ECDHE-ECDSA-AES256-SHA ECDHE-RSA-AES256-SHA AES128-GCM-SHA256 AES256-GCM-SHA384 AES128-SHA AES256-SHA DES-CBC3-SHA
"""
_SUITES = frozenset(("ALL", *_NAMES.split()))


def known(suites: Iterable[str]) -> list[str]:
    """Those of `suites` that a proxy is told, each once."""
    return [one for one in dict.fromkeys(suites) if one and _is_known(one)]


def unknown(suites: Iterable[str]) -> list[str]:
    """Those of `suites` that are left out, each once."""
    return [one for one in dict.fromkeys(suites) if one and not _is_known(one)]


def _is_known(suite: str) -> bool:
    # A sign before a name adds or removes it; what that leads to only Envoy knows.
    return suite in _SUITES or not suite[0].isalnum()
