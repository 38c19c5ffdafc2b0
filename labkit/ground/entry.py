# SPDX-License-Identifier: Apache-2.0
"""How a command of ours begins. Little is imported here: whatever cannot be loaded is to be told."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys

__all__ = ["enter"]


def enter(program: str, module: str) -> int:
    """Load `module` and run its `main()`; what keeps even that from being loaded is told in one sentence.

    Args:
        program: The command's name, for messages.
        module: The dotted name of a module with a function `main() -> int`.

    Returns:
        The exit code.
    """
    for number in (0, 1, 2):
        # A stream that is closed would be the number of the next file, which our children then take for the stream.
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    try:
        main = importlib.import_module(module).main
    except Exception as error:
        # A module of the same name that PYTHONPATH puts before ours, or an installation that was cut short.
        step = (
            "unset PYTHONPATH" if os.environ.get("PYTHONPATH") else "`make clean`, then install it anew: `make setup`"
        )
        # Not every terminal has the arrow.
        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr.reconfigure(errors="backslashreplace")
        print(f"{program}: cannot be loaded: {type(error).__name__}: {error}\n→ {step}", file=sys.stderr)
        return 1
    code: int = main()
    return code
