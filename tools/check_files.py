"""Checks the shape of the house: no Python file of 400 lines, and a labkit that can be read in an evening."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 400

MOST = {"labkit": 11_850, "labkit/ground": 4_150}
"""Lines that a part may have. For what lessons call, labkit without its ground floor, the aim is 7 000 and the figure
falls, save for what labkit did not do before; the ground floor, which all packages share, grows by what several of them
need.
"""


def _tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for line in listed.splitlines() if (path := Path(line)).is_file()]


def _part(path: Path) -> str:
    # Types are made by a tool from tables and schemas, for mypy alone: nobody reads them in an evening.
    if path.parts[:3] == ("labkit", "ground", "typed"):
        return "labkit/ground/typed"
    return "labkit/ground" if path.parts[:2] == ("labkit", "ground") else path.parts[0]


def main() -> int:
    """Print what is out of shape; exit code 1 if anything is."""
    lengths = {path: len(path.read_text().splitlines()) for path in _tracked("*.py")}
    wrong = [
        f"{path}: {count} lines, the limit is {LIMIT}: split it" for path, count in lengths.items() if count >= LIMIT
    ]
    told = []
    for package in ("labkit", "labkit/ground", "labkit/ground/typed", "meshbox", "grafana_figures", "tests"):
        lines = sum(count for path, count in lengths.items() if _part(path) == package)
        told.append(f"{package} {lines}")
        if lines > MOST.get(package, lines):
            wrong.append(f"{package}: {lines} lines, the limit is {MOST[package]}: say it shorter")
    print(f"{len(lengths)} Python files; lines: {', '.join(told)}")
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
