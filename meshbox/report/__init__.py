# SPDX-License-Identifier: Apache-2.0
"""``meshbox report``: what somebody else needs to find a fault in a sandbox, in one file without secrets."""

from __future__ import annotations

from meshbox.report.pack import Report, pack

__all__ = ["Report", "pack"]
