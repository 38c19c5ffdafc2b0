# SPDX-License-Identifier: Apache-2.0
"""``python -m labkit``, and the command `labkit`."""

from __future__ import annotations

import sys

from labkit.ground.entry import enter


def main() -> int:
    """The command line."""
    return enter("labkit", "labkit.cli")


if __name__ == "__main__":
    sys.exit(main())
