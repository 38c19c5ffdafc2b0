"""``python -m labkit``, and the command `labkit`."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def main() -> int:
    """The command line; what keeps even that from being loaded is told in one sentence."""
    for number in (0, 1, 2):
        # A stream that is closed would be the number of the next file, which our children then take for the stream.
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    try:
        from labkit import cli
    except Exception as error:
        # A module of the same name that PYTHONPATH puts before ours, or an installation that was cut short.
        step = (
            "unset PYTHONPATH" if os.environ.get("PYTHONPATH") else "`make clean`, then install it anew: `make setup`"
        )
        # Not every terminal has the arrow.
        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr.reconfigure(errors="backslashreplace")
        print(f"labkit: cannot be loaded: {type(error).__name__}: {error}\n→ {step}", file=sys.stderr)
        return 1
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
