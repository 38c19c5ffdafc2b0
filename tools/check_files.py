"""Checks the shape of the house: every Python file under 400 lines, and how long the helper is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 400
HELPER_AIM = 2500


def _tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for line in listed.splitlines() if (path := Path(line)).is_file()]


def main() -> int:
    """Print what is out of shape; exit code 1 if anything is."""
    lengths = {path: len(path.read_text().splitlines()) for path in _tracked("*.py")}
    wrong = [
        f"{path}: {count} lines, the limit is {LIMIT}: split it" for path, count in lengths.items() if count >= LIMIT
    ]
    helper = sum(
        count for path, count in lengths.items() if path.parts[0] == "labkit" and path.parts[1:2] != ("sandbox",)
    )
    print(f"{len(lengths)} Python files; labkit outside the sandbox: {helper} lines (aim {HELPER_AIM})")
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
