# SPDX-License-Identifier: Apache-2.0
"""What the tests ran of each package, in lines and in branches, processes of sandboxes included: `make coverage`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

PACKAGES = ("labkit", "meshbox", "grafana_figures")


def share(covered: int, of: int) -> str:
    """A part in percent, rounded down: 100 % is said of all only."""
    return f"{covered * 1000 // of / 10:.1f} %" if of else "–"


def main() -> int:
    """Print a line a package; the pages with every line go to build/coverage/html."""
    cover = Coverage()
    cover.load()
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            out = Path(folder) / f"{package}.json"
            try:
                cover.json_report(outfile=str(out), include=[f"{package}/*"])
            except NoDataError:
                print(f"{package:<16} nothing of it was run")
                continue
            totals = json.loads(out.read_text())["totals"]
            lines = share(totals["covered_lines"], totals["num_statements"])
            branches = share(totals["covered_branches"], totals["num_branches"])
            print(f"{package:<16} lines {lines:>7} of {totals['num_statements']:>6}, branches {branches:>7}")
    cover.html_report(directory="build/coverage/html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
