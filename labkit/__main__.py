"""``python -m labkit``, and the command `labkit`."""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """The command line; what keeps even that from being loaded is told in one sentence."""
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
