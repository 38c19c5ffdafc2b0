# SPDX-License-Identifier: Apache-2.0
"""Programs that tests write in Python, in whatever folder this Python is."""

from __future__ import annotations

import sys

__all__ = ["first_lines"]


def first_lines(*options: str) -> str:
    """What a script begins with to be run by this Python: the kernel takes no name with a blank, a shell does.

    Args:
        options: Of Python, such as "-E".
    """
    return f"""#!/bin/sh
'''exec' "{sys.executable}" {" ".join(options)} "$0" "$@"
' '''
"""
