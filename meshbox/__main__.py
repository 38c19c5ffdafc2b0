# SPDX-License-Identifier: Apache-2.0
"""``python -m meshbox``, and the command `meshbox`."""

from __future__ import annotations

import sys

from labkit.ground.entry import enter
from meshbox.program import program


def main() -> int:
    """The command line."""
    return enter(program(), "meshbox.cli")


if __name__ == "__main__":
    sys.exit(main())
