# SPDX-License-Identifier: Apache-2.0
"""By which command its user knows the sandbox: the next step in a message is one that they can type."""

from __future__ import annotations

import os

__all__ = ["program"]


def program() -> str:
    """ "meshbox", or "labkit" for who called it by `labkit up` (which says so in `$MESHBOX_PROGRAM`)."""
    return "labkit" if os.environ.get("MESHBOX_PROGRAM") == "labkit" else "meshbox"
